// The Search tab: a query of texts, images and filters, and a grid of hits. The URL holds everything but an image.

import { ApiError, fetchJson, loadImage } from "./api.js";
import { openDetail } from "./detail.js";
import { $, addChipInput, announce, createChip, debounce, el, loadSetting, pluralize, saveSetting } from "./dom.js";
import { addImageDropTarget, readImage } from "./image_input.js";

const PAGE_SIZE = 48;
const NUM_EXAMPLES = 4;
const NUM_PREVIEWS = 6;
const MAX_TERMS = 32; // of each kind, as the server allows
const MAX_AUTO_HITS = 1000; // beyond these, hits are loaded by the button only
const URL_PARAMS = [["text", "q"], ["where", "where"], ["min_score", "min_score"], ["dedup", "dedup"]];

export function mount(serverInfo) {
  if (!serverInfo.store) return renderEmpty("No store to search.");
  if (!serverInfo.store.rows) return renderEmpty("The store is empty.");
  const query = { text: "", image: null, not: [], like: [], unlike: [], where: "", min_score: "", dedup: "" };
  const fields = { text: $("query"), where: $("where"), min_score: $("min-score"), dedup: $("dedup") };
  let hits = [];
  let abortController = null;
  let lastParams = null; // the parameters that the URL had last

  // Requests

  const buildRequest = () => ({
    ...(query.text.trim() && { text: query.text.trim() }),
    ...(query.image && { image: query.image.input }),
    ...Object.fromEntries(["not", "like", "unlike"].map((name) => [name, query[name]]).filter(([, list]) => list.length)),
    ...(query.where.trim() && { where: query.where.trim() }),
    ...(query.min_score !== "" && { min_score: Number(query.min_score) }),
    ...(query.dedup !== "" && { dedup: Number(query.dedup) }),
    k: Math.min(PAGE_SIZE, serverInfo.limits.k),
  });
  const hasQuery = () => query.text.trim() || query.image || query.not.length || query.like.length || query.unlike.length;

  async function search({ append = false } = {}) {
    abortController?.abort();
    if (!hasQuery()) return renderStart();
    const controller = (abortController = new AbortController());
    const spinnerTimer = setTimeout(() => $("hits").classList.add("is-loading"), 200);
    try {
      const body = { ...buildRequest(), offset: append ? hits.length : 0 };
      const response = await fetchJson("v1/search", { body, signal: controller.signal });
      setFilterError("");
      renderHits(response, append);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 400 && query.where.trim()) setFilterError(error.message);
      else setStatus(error.message, true);
    } finally {
      clearTimeout(spinnerTimer);
      if (controller === abortController) $("hits").classList.remove("is-loading");
    }
  }

  const scheduleSearch = debounce(250, () => search());
  const onQueryChange = () => {
    writeUrl();
    renderQueryChips();
    scheduleSearch();
  };

  // Hits

  function renderHits(response, append) {
    $("search-start").replaceChildren();
    const first = append ? hits.length : 0;
    hits = append ? [...hits, ...response.hits] : response.hits;
    const items = response.hits.map((hit, index) => renderHit(hit, first + index));
    if (append) $("hits").append(...items);
    else $("hits").replaceChildren(...items);
    if (!append) setFocusedHit(0);
    $("more").hidden = !response.more;
    const recall = response.recall == null ? "" : ` (finds ${Math.round(100 * response.recall)}% of the nearest)`;
    const duration = response.seconds < 1 ? `${Math.max(1, Math.round(1000 * response.seconds))} ms` : `${response.seconds.toFixed(1)} s`;
    const advice = hits.length ? [] : ["no results; relax the filter or the score"];
    setStatus([pluralize(response.searched, "image"), duration, `${response.method}${recall}`, ...advice, ...response.warnings].join(" · "));
    announce(append ? `${response.hits.length} more images` : `${hits.length}${response.more ? " and more" : ""} images found`);
  }

  function renderHit(hit, index) {
    const image = el("img", { alt: "", loading: "lazy", decoding: "async" });
    loadImage(image, `${hit.thumbnail}?side=192`);
    image.addEventListener("error", () => image.remove(), { once: true });
    const text = hit.caption ?? hit.name;
    const aspectRatio = hit.width && hit.height ? Math.min(2.5, Math.max(0.5, hit.width / hit.height)) : 1;
    const duplicates = hit.num_duplicates ? `, ${pluralize(hit.num_duplicates, "near duplicate")}` : "";
    return el("li", { style: { "--aspect-ratio": aspectRatio.toFixed(3) } },
      el("button", {
        type: "button", class: "open", tabindex: -1,
        "aria-label": `${text}, score ${hit.score.toFixed(2)}${duplicates}`,
        onclick: () => openHit(index), onfocus: () => setFocusedHit(index, false),
      }, image, hit.num_duplicates > 0 && el("span", { class: "duplicates", title: "near duplicates" }, `+${hit.num_duplicates}`)),
      el("p", { class: "caption", "aria-hidden": "true" }, el("span", { class: "score" }, hit.score.toFixed(2)), " ", text),
      el("p", { class: "hit-actions" },
        el("button", { type: "button", title: "more like this (m)", "aria-label": `more like ${text}`, tabindex: -1, onclick: () => addReference("like", hit) }, "+"),
        el("button", { type: "button", title: "less like this (l)", "aria-label": `less like ${text}`, tabindex: -1, onclick: () => addReference("unlike", hit) }, "−")));
  }

  const openHit = (index) => openDetail(hits, index, {
    moreLike: (hit) => addReference("like", hit),
    lessLike: (hit) => addReference("unlike", hit),
    onClose: (lastIndex) => setFocusedHit(lastIndex),
  });

  function addReference(name, hit) {
    if (query[name].includes(hit.id)) return;
    const other = name === "like" ? "unlike" : "like";
    query[other] = query[other].filter((id) => id !== hit.id);
    query[name] = [...query[name], hit.id].slice(-MAX_TERMS);
    announce(`searching for ${name === "like" ? "more" : "less"} like this`);
    onQueryChange();
    window.scrollTo({ top: 0 });
  }

  // Roving tabindex: Tab reaches one hit, arrow keys move to the others.
  function setFocusedHit(index, focus = document.activeElement?.closest?.("#hits")) {
    for (const [position, item] of [...$("hits").children].entries()) {
      for (const button of item.querySelectorAll("button")) button.tabIndex = position === index ? 0 : -1;
    }
    if (focus) $("hits").children[index]?.querySelector(".open").focus();
  }

  $("hits").addEventListener("keydown", (event) => {
    const items = [...$("hits").children];
    const index = items.indexOf(event.target.closest("li"));
    if (index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const next = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: items.length - 1 }[event.key] ?? verticalNeighbor(items, index, event.key);
    if (event.key === "m") addReference("like", hits[index]);
    else if (event.key === "l") addReference("unlike", hits[index]);
    else if (items[next]) setFocusedHit(next, true);
    else return;
    event.preventDefault();
  });

  function verticalNeighbor(items, index, key) {
    if (key !== "ArrowDown" && key !== "ArrowUp") return undefined;
    const bounds = (item) => item.getBoundingClientRect();
    const current = bounds(items[index]);
    const center = current.left + current.width / 2;
    const step = key === "ArrowDown" ? 1 : -1;
    let best;
    for (let candidate = index + step, rowTop = null; items[candidate]; candidate += step) {
      const box = bounds(items[candidate]);
      if (Math.abs(box.top - current.top) < 4) continue;
      rowTop ??= box.top;
      if (Math.abs(box.top - rowTop) >= 4) break;
      const distance = Math.abs(box.left + box.width / 2 - center);
      if (!best || distance < best.distance) best = { index: candidate, distance };
    }
    return best?.index;
  }

  function renderQueryChips() {
    const removeTerm = (name, value) => () => {
      query[name] = query[name].filter((item) => item !== value);
      onQueryChange();
    };
    const thumbnail = (id) => {
      const image = el("img", { alt: "", width: 32, height: 32 });
      loadImage(image, `v1/images/${encodeURIComponent(id)}/thumbnail?side=96`);
      return image;
    };
    const signIcon = (text) => el("span", { class: "sign", "aria-hidden": "true" }, text);
    $("query-chips").replaceChildren(
      ...(query.image ? [createChip(el("img", { alt: "", width: 32, height: 32, src: query.image.preview }), "query image", () => setQueryImage(null))] : []),
      ...query.like.map((id) => createChip([signIcon("+"), thumbnail(id)], "more like this image", removeTerm("like", id))),
      ...query.unlike.map((id) => createChip([signIcon("−"), thumbnail(id)], "less like this image", removeTerm("unlike", id), "negative")),
      ...query.not.map((text) => createChip([signIcon("−"), text], text, removeTerm("not", text), "negative")));
    const activeFilters = [
      query.where.trim() && "filter", query.min_score !== "" && "minimum score", query.dedup !== "" && "near duplicates",
    ].filter(Boolean);
    $("active-filters").textContent = activeFilters.length ? `: ${activeFilters.join(", ")}` : "";
  }

  function setQueryImage(image) {
    if (query.image) URL.revokeObjectURL(query.image.preview);
    query.image = image;
    onQueryChange();
  }

  async function loadQueryImage([file]) {
    try {
      setQueryImage(await readImage(file, serverInfo.limits.body_bytes / 2));
    } catch (error) {
      setStatus(error.message, true);
    }
  }

  function setStatus(text, isError = false) {
    $("search-status").textContent = text;
    $("search-status").classList.toggle("error", isError);
  }

  function setFilterError(text) {
    const [message, ...excerpt] = text.split("\n");
    $("where-error").replaceChildren(message, ...(excerpt.length ? [el("span", { class: "error-excerpt" }, excerpt.join("\n"))] : []));
    fields.where.setAttribute("aria-invalid", Boolean(text));
    if (text) $("filters").open = true;
  }

  // Example queries, while there is no query

  function renderStart() {
    hits = [];
    $("hits").replaceChildren();
    $("more").hidden = true;
    setStatus("");
    setFilterError("");
    if ($("search-start").childElementCount) return;
    $("search-start").replaceChildren(el("ul", { class: "examples", "aria-label": "Examples" },
      ...serverInfo.examples.slice(0, NUM_EXAMPLES).map((text) => {
        const strip = el("span", { class: "preview-strip" }, ...Array.from({ length: NUM_PREVIEWS }, () => el("span", {})));
        loadPreview(text, strip);
        return el("li", {}, el("button", { type: "button", onclick: () => runExample(text) }, el("span", { class: "example-text" }, text), strip));
      })));
  }

  async function loadPreview(text, strip) {
    try {
      const response = await fetchJson("v1/search", { body: { text, k: NUM_PREVIEWS } });
      for (const [index, hit] of response.hits.entries()) {
        const image = el("img", { alt: "" });
        loadImage(image, `${hit.thumbnail}?side=96`);
        strip.children[index].append(image);
      }
    } catch {
      strip.remove(); // an example also works without a preview
    }
  }

  function runExample(text) {
    query.text = fields.text.value = text;
    writeUrl();
    search();
  }

  // The URL

  function writeUrl() {
    const params = new URLSearchParams();
    for (const [name, key] of URL_PARAMS) {
      if (query[name].trim()) params.set(key, query[name].trim());
    }
    for (const name of ["not", "like", "unlike"]) for (const item of query[name]) params.append(name, item);
    lastParams = params.toString();
    history.replaceState(null, "", lastParams ? `#search?${lastParams}` : "#search");
  }

  function readUrl(params) {
    // Text that was typed before the tab was mounted is a query too.
    if (lastParams === null && !params.has("q") && fields.text.value) params.set("q", fields.text.value);
    for (const [name, key] of URL_PARAMS) {
      query[name] = fields[name].value = params.get(key) ?? "";
    }
    for (const name of ["not", "like", "unlike"]) query[name] = params.getAll(name);
    renderQueryChips();
    search();
  }

  for (const [name, field] of Object.entries(fields)) {
    field.addEventListener("input", () => {
      query[name] = field.value;
      onQueryChange();
    });
  }
  $("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    scheduleSearch.cancel();
    search();
  });
  fields.text.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && hits.length) {
      event.preventDefault();
      setFocusedHit(0, true);
    }
  });
  addChipInput($("not"), (texts) => {
    query.not = [...new Set([...query.not, ...texts])].slice(0, MAX_TERMS);
    onQueryChange();
  });
  $("search-image-button").addEventListener("click", () => $("search-image-input").click());
  $("search-image-input").addEventListener("change", (event) => {
    if (event.target.files.length) loadQueryImage(event.target.files);
    event.target.value = "";
  });
  addImageDropTarget($("search"), loadQueryImage);
  renderColumnHelp(serverInfo.store.columns, (text) => {
    fields.where.value = query.where = text;
    onQueryChange();
  });
  $("filters").open = loadSetting("filters", false);
  $("filters").addEventListener("toggle", () => saveSetting("filters", $("filters").open));
  $("more").addEventListener("click", () => search({ append: true }));
  new IntersectionObserver(([entry]) => {
    if (entry.isIntersecting && !$("more").hidden && hits.length < MAX_AUTO_HITS) $("more").click();
  }, { rootMargin: "400px" }).observe($("more"));

  return {
    onShow(params) {
      if (lastParams !== null && !params.size) return writeUrl(); // back from another tab: the query is unchanged
      if (lastParams !== params.toString()) readUrl(params);
      lastParams = params.toString();
    },
  };
}

// List the columns that a filter can use; a click appends the beginning of a comparison.
function renderColumnHelp(columns, onChange) {
  const field = $("where");
  const filterTemplate = { number: "= ", text: 'contains "', date: ">= \"", "yes/no": "= true" };
  const numberNames = columns.filter((column) => column.type === "number").map((column) => column.name);
  const textColumn = columns.find((column) => column.type === "text");
  field.placeholder = numberNames.includes("width") ? "width >= 640" : textColumn ? `${textColumn.name} contains "…"` : "";
  $("where-help").replaceChildren("Columns: ", ...columns.flatMap(({ name, type }, index) => [
    index ? ", " : "",
    el("button", {
      type: "button", class: "link-button", title: type,
      onclick: () => {
        const prefix = field.value.trimEnd();
        field.value = `${prefix}${prefix ? " and " : ""}${name} ${filterTemplate[type] ?? ""}`;
        field.focus();
        onChange(field.value);
      },
    }, name),
  ]), ". Combine with and, or, not.");
}

// Explain how to create a store.
function renderEmpty(message) {
  $("search-form").hidden = true;
  $("search-start").replaceChildren(el("div", { class: "empty" },
    el("h2", {}, message),
    el("p", {}, "Embed images into a store and serve it:"),
    el("pre", {}, "zebra embed MODEL IMAGES --out STORE\nzebra serve --store STORE"),
    el("p", {}, "IMAGES is a folder, a table or tar shards. Then reload this page.")));
  return {};
}
