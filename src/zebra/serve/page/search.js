// The Search tab: all images, or those that a query of texts, images and filters finds. The URL holds all but images.

import { ApiError, fetchJson, loadImage, thumbnailUrl } from "./api.js";
import { openCodeDialog } from "./code_samples.js";
import { openDetail } from "./detail.js";
import { $, addChipInput, announce, createChip, debounce, el, formatCount, loadSetting, pluralize, saveSetting } from "./dom.js";
import { Facets } from "./facets.js";
import { joinFilters, valuesFilter } from "./filters.js";
import { ImageGrid } from "./grid.js";
import { addImageDropTarget, readImage } from "./image_input.js";
import { renderColumnHelp, renderEmpty } from "./search_help.js";
import { selection } from "./selection.js";

const PAGE_SIZE = 48;
const MAX_EXAMPLES = 5;
const MAX_TERMS = 32; // of each kind, as the server allows
const MAX_AUTO_HITS = 1000; // beyond these, images are loaded by the button only
const TEXT_PARAMS = [["text", "q"], ["where", "where"], ["min_score", "min_score"], ["dedup", "dedup"]];
const LIST_PARAMS = ["not", "like", "unlike"];

export function mount(serverInfo) {
  if (!serverInfo.store) return renderEmpty("No store to search.");
  if (!serverInfo.store.rows) return renderEmpty("The store is empty.", serverInfo.add);
  const query = { text: "", image: null, not: [], like: [], unlike: [], where: "", min_score: "", dedup: "", ids: null };
  const fields = { text: $("query"), where: $("where"), min_score: $("min-score"), dedup: $("dedup") };
  const facets = new Facets($("facets"), () => onQueryChange(), (name, values) => addExpression(name, values));
  const grid = new ImageGrid($("hits"), {
    open: (index) => openImage(index),
    like: (row) => addReference("like", row),
    unlike: (row) => addReference("unlike", row),
  });
  let abortController = null;
  let isOutdated = false; // the results are those of an earlier query
  let lastParams = null; // the parameters that the URL had last

  // Requests

  const ranks = () => query.text.trim() || query.image || query.not.length || query.like.length || query.unlike.length;
  const buildFilter = () => joinFilters([...Object.values(facets.filters), query.where.trim()].filter(Boolean));

  function buildRequest() {
    const where = buildFilter();
    const paging = { ...(where && { where }), k: Math.min(PAGE_SIZE, serverInfo.limits.k) };
    if (query.ids) return ["v1/rows", { ids: query.ids, ...paging }];
    if (!ranks()) return ["v1/rows", { order: $("order").value, ...paging }];
    return ["v1/search", {
      ...(query.text.trim() && { text: query.text.trim() }),
      ...(query.image && { image: query.image.input }),
      ...Object.fromEntries(LIST_PARAMS.map((name) => [name, query[name]]).filter(([, list]) => list.length)),
      ...(query.min_score !== "" && { min_score: Number(query.min_score) }),
      ...(query.dedup !== "" && { dedup: Number(query.dedup) }),
      ...paging,
    }];
  }

  async function search({ append = false } = {}) {
    scheduleSearch.cancel();
    isOutdated = false;
    abortController?.abort();
    const { signal } = (abortController = new AbortController());
    const spinnerTimer = setTimeout(() => $("hits").classList.add("is-loading"), 200);
    try {
      if (facets.hasPending) await updateFacets(signal);
      const [path, body] = buildRequest();
      const response = await fetchJson(path, { body: { ...body, offset: append ? grid.rows.length : 0 }, signal });
      setFilterError("");
      renderResponse(response, append);
      if (!append) await updateFacets(signal);
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      if (error.status === 400 && query.where.trim()) setFilterError(error.message);
      else setStatus(error.message, { isError: true });
    } finally {
      clearTimeout(spinnerTimer);
      if (signal === abortController.signal) $("hits").classList.remove("is-loading");
    }
  }

  async function updateFacets(signal) {
    await facets.update(query.where.trim(), signal);
    $("facets").hidden = !$("facets").childElementCount;
    if ($("facets").hidden && !loadSetting("filters", false) && !$("advanced").open) $("filters").open = false;
    renderQueryChips();
  }

  const scheduleSearch = debounce(250, () => search());
  const onQueryChange = () => {
    isOutdated = true;
    writeUrl();
    renderQueryChips();
    scheduleSearch();
  };

  // Results

  function renderResponse(response, append) {
    const rows = response.hits ?? response.rows;
    if (append) grid.append(rows);
    else grid.setRows(rows);
    $("more").hidden = !response.more;
    const isSearch = Boolean(response.hits);
    $("order-field").hidden = isSearch || Boolean(query.ids) || !rows.length;
    $("results-tools").hidden = !rows.length;
    $("search-examples").hidden = isSearch;
    const numRows = response.searched ?? response.num_rows;
    const advice = isSearch ? "best first" : query.ids ? "selected by you" : "";
    setStatus([describeCount(response, numRows), rows.length && advice, ...(response.warnings ?? [])].filter(Boolean).join(" · "), { title: describeMethod(response) });
    $("no-match").hidden = rows.length > 0;
    announce(append ? `${rows.length} more images` : rows.length ? $("search-status").textContent : "no image matches");
  }

  // "924 images", or "350 of 924 match"; only a minimum score leaves open how many there are.
  function describeCount(response, numRows) {
    let count = response.num_matches;
    if (response.hits && query.min_score !== "") count = response.more ? null : grid.rows.length;
    if (response.hits && query.dedup !== "" && !response.more) count = grid.rows.length;
    if (count === null) return pluralize(numRows, "image");
    return count === numRows ? pluralize(numRows, "image") : `${formatCount(count)} of ${formatCount(numRows)} match`;
  }

  function describeMethod({ seconds, method, recall }) {
    const duration = seconds < 1 ? `${Math.max(1, Math.round(1000 * seconds))} ms` : `${seconds.toFixed(1)} s`;
    if (!method) return duration;
    return `${method} search${recall == null ? "" : ` (finds ${Math.round(100 * recall)}% of the nearest)`}, ${duration}`;
  }

  const openImage = (index) => openDetail(grid.rows, index, {
    like: (row) => addReference("like", row),
    unlike: (row) => addReference("unlike", row),
    filter: (name, value) => facets.select(name, value) || onQueryChange(addExpression(name, [value])),
    onClose: (lastIndex) => grid.setFocused(lastIndex, true),
  });

  // Filter by a column that has too many values for a facet.
  function addExpression(name, texts) {
    const isText = serverInfo.store.columns.find((column) => column.name === name)?.type === "text";
    const filter = valuesFilter(name, isText ? texts.map(String) : texts.map((text) => (isNaN(text) ? String(text) : Number(text))));
    fields.where.value = query.where = joinFilters([query.where.trim(), filter].filter(Boolean));
  }

  function addReference(name, row) {
    if (query[name].includes(row.id)) return;
    const other = name === "like" ? "unlike" : "like";
    query[other] = query[other].filter((id) => id !== row.id);
    query[name] = [...query[name], row.id].slice(-MAX_TERMS);
    query.ids = null;
    announce(`searching for ${name === "like" ? "more" : "less"} like this`);
    onQueryChange();
    window.scrollTo({ top: 0 });
  }

  function renderQueryChips() {
    const removeTerm = (name, value) => () => {
      query[name] = query[name].filter((item) => item !== value);
      onQueryChange();
    };
    const thumbnail = (id) => {
      const image = el("img", { alt: "", width: 32, height: 32 });
      loadImage(image, thumbnailUrl(id, 96));
      return image;
    };
    const sign = (text) => el("span", { class: "sign", "aria-hidden": "true" }, text);
    const chips = [
      query.ids && createChip(pluralize(query.ids.length, "chosen image"), "the chosen images", () => showImages(null)),
      query.image && createChip(el("img", { alt: "", width: 32, height: 32, src: query.image.preview }), "query image", () => setQueryImage(null)),
      ...query.like.map((id) => createChip([sign("+"), thumbnail(id)], "more like this image", removeTerm("like", id))),
      ...query.unlike.map((id) => createChip([sign("−"), thumbnail(id)], "less like this image", removeTerm("unlike", id), "negative")),
      ...query.not.map((text) => createChip([sign("−"), text], text, removeTerm("not", text), "negative")),
      ...facets.descriptions.map(({ name, text, remove }) => createChip(text, `filter by ${name}`, remove)),
    ].filter(Boolean);
    const hadFocus = $("query-chips").contains(document.activeElement);
    $("query-chips").replaceChildren(...chips);
    if (hadFocus) ($("query-chips").querySelector("button") ?? fields.text).focus();
    const active = [...Object.keys(facets.filters), ...["where", "min_score", "dedup"].filter((name) => query[name].trim())];
    $("active-filters").textContent = active.length ? `\u00a0(${active.length})` : "";
    if (["where", "min_score", "dedup"].some((name) => query[name].trim())) $("advanced").open = true;
  }

  function setQueryImage(image) {
    if (query.image) URL.revokeObjectURL(query.image.preview);
    query.image = image;
    query.ids = null;
    onQueryChange();
  }

  async function loadQueryImage([file]) {
    try {
      setQueryImage(await readImage(file, serverInfo.limits.body_bytes / 2));
    } catch (error) {
      setStatus(error.message, { isError: true });
    }
  }

  function showImages(ids) {
    query.ids = ids;
    onQueryChange();
  }

  function setStatus(text, { isError = false, title = "" } = {}) {
    $("search-status").textContent = text;
    $("search-status").title = title;
    $("search-status").classList.toggle("error", isError);
  }

  function setFilterError(text) {
    const [message, ...excerpt] = text.split("\n");
    $("where-error").replaceChildren(message, ...(excerpt.length ? [el("span", { class: "error-excerpt" }, excerpt.join("\n"))] : []));
    fields.where.setAttribute("aria-invalid", Boolean(text));
    if (text) $("filters").open = $("advanced").open = true;
  }

  function clearFilters() {
    facets.clear();
    for (const name of ["where", "min_score", "dedup"]) query[name] = fields[name].value = "";
    query.ids = null;
    onQueryChange();
  }

  // The URL

  function writeUrl() {
    const params = new URLSearchParams();
    for (const [name, key] of TEXT_PARAMS) if (query[name].trim()) params.set(key, query[name].trim());
    for (const name of LIST_PARAMS) for (const item of query[name]) params.append(name, item);
    facets.writeParams(params);
    if ($("order").value !== "newest") params.set("order", $("order").value);
    lastParams = params.toString();
    history.replaceState(null, "", lastParams ? `#search?${lastParams}` : "#search");
  }

  function readUrl(params) {
    // Text that was typed before the tab was mounted is a query too.
    if (lastParams === null && !params.has("q") && fields.text.value) params.set("q", fields.text.value);
    for (const [name, key] of TEXT_PARAMS) query[name] = fields[name].value = params.get(key) ?? "";
    for (const name of LIST_PARAMS) query[name] = params.getAll(name);
    $("order").value = params.get("order") === "oldest" ? "oldest" : "newest";
    query.ids = null;
    facets.readParams(params);
    renderQueryChips();
    search();
  }

  for (const [name, field] of Object.entries(fields)) {
    field.addEventListener("input", () => {
      query[name] = field.value;
      if (name === "text") query.ids = null;
      onQueryChange();
    });
  }
  $("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    scheduleSearch.cancel();
    search();
  });
  fields.text.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && grid.rows.length) {
      event.preventDefault();
      grid.setFocused(0, true);
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
  $("filters").open = loadSetting("filters", matchMedia("(min-width: 64rem)").matches);
  $("filters").querySelector("summary").addEventListener("click", () => saveSetting("filters", !$("filters").open));
  $("order").addEventListener("change", onQueryChange);
  $("select-all").addEventListener("click", () => selection.add(grid.rows));
  $("search-code").addEventListener("click", () => openCodeDialog(...buildRequest()));
  $("clear-filters").addEventListener("click", clearFilters);
  $("more").addEventListener("click", () => search({ append: !isOutdated }));
  new IntersectionObserver(([entry]) => {
    if (entry.isIntersecting && !$("more").hidden && grid.rows.length < MAX_AUTO_HITS) $("more").click();
  }, { rootMargin: "400px" }).observe($("more"));
  document.addEventListener("show-images", (event) => {
    location.hash = "search";
    showImages(event.detail);
  });
  $("search-examples").replaceChildren(...(serverInfo.examples.length ? ["Try ", ...serverInfo.examples.slice(0, MAX_EXAMPLES).flatMap((text, index) => [
    index ? " · " : "",
    el("button", { type: "button", class: "link-button", onclick: () => {
      query.text = fields.text.value = text;
      onQueryChange();
    } }, text),
  ])] : []));

  return {
    onShow(params) {
      if (lastParams !== null && !params.size) return writeUrl(); // back from another tab: the query is unchanged
      if (lastParams !== params.toString()) readUrl(params);
      lastParams = params.toString();
    },
  };
}
