// The Search tab: words, pictures and a filter in; a grid of pictures out. The address holds what can be written down.

import { ask, Problem, show } from "/page/api.js";
import { openDetail } from "/page/detail.js";
import { $, chip, chipField, count, el, later, plural, recall, remember, speak } from "/page/dom.js";
import { readPicture, takePictures } from "/page/pictures.js";

const PAGE = 48;
const EXAMPLES = 4;
const PREVIEWS = 6;

export function open(about) {
  if (!about.store) return without("There is no store to search.");
  if (!about.store.rows) return without("The store is empty.");
  const query = { text: "", picture: null, not: [], like: [], unlike: [], where: "", least: "", fold: "" };
  const fields = { text: $("query"), where: $("where"), least: $("least"), fold: $("fold") };
  let hits = [];
  let asking = null;
  let told = null; // what the address said last

  // What is asked

  const request = () => ({
    ...(query.text.trim() && { text: query.text.trim() }),
    ...(query.picture && { image: query.picture.image }),
    ...Object.fromEntries(["not", "like", "unlike"].map((name) => [name, query[name]]).filter(([, list]) => list.length)),
    ...(query.where.trim() && { where: query.where.trim() }),
    ...(query.least !== "" && { min_score: Number(query.least) }),
    ...(query.fold !== "" && { fold: Number(query.fold) }),
    k: Math.min(PAGE, about.limits.k),
  });
  const isAsked = () => query.text.trim() || query.picture || query.not.length || query.like.length || query.unlike.length;

  async function search({ append = false } = {}) {
    asking?.abort();
    if (!isAsked()) return start();
    const mine = (asking = new AbortController());
    const slow = setTimeout(() => $("hits").classList.add("waiting"), 200);
    try {
      const body = { ...request(), offset: append ? hits.length : 0 };
      const found = await ask("/v1/search", { body, signal: mine.signal });
      complain("");
      draw(found, append);
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (!(problem instanceof Problem)) throw problem;
      if (problem.status === 400 && query.where.trim()) complain(problem.message);
      else tell(problem.message, true);
    } finally {
      clearTimeout(slow);
      if (mine === asking) $("hits").classList.remove("waiting");
    }
  }

  const soon = later(250, () => search());
  const changed = () => {
    write();
    parts();
    soon();
  };

  // What is shown

  function draw(found, append) {
    $("search-start").replaceChildren();
    const first = append ? hits.length : 0;
    hits = append ? [...hits, ...found.hits] : found.hits;
    const tiles = found.hits.map((hit, index) => tile(hit, first + index));
    if (append) $("hits").append(...tiles);
    else $("hits").replaceChildren(...tiles);
    if (!append) rove(0);
    $("more").hidden = !found.more;
    const recall = found.recall == null ? "" : ` (finds ${Math.round(100 * found.recall)}% of the nearest)`;
    const seconds = found.seconds < 1 ? `${Math.max(1, Math.round(1000 * found.seconds))} ms` : `${found.seconds.toFixed(1)} s`;
    const nothing = hits.length ? [] : ["nothing found; loosen the filter or the score"];
    tell([plural(found.searched, "picture"), seconds, `${found.method}${recall}`, ...nothing, ...found.warnings].join(" · "));
    speak(append ? `${found.hits.length} more pictures` : `${hits.length}${found.more ? " and more" : ""} pictures found`);
  }

  function tile(hit, index) {
    const picture = el("img", { alt: "", loading: "lazy", decoding: "async" });
    show(picture, `${hit.thumbnail}?side=192`);
    picture.addEventListener("error", () => picture.remove(), { once: true });
    const words = hit.caption ?? hit.name;
    const ratio = hit.width && hit.height ? Math.min(2.5, Math.max(0.5, hit.width / hit.height)) : 1;
    return el("li", { style: { "--ratio": ratio.toFixed(3) } },
      el("button", {
        type: "button", class: "open", tabindex: -1,
        "aria-label": `${words}, score ${hit.score.toFixed(2)}${hit.folded ? `, ${plural(hit.folded, "near duplicate")}` : ""}`,
        onclick: () => look(index), onfocus: () => rove(index, false),
      }, picture, hit.folded > 0 && el("span", { class: "folded", title: "near duplicates" }, `+${hit.folded}`)),
      el("p", { class: "caption", "aria-hidden": "true" }, el("span", { class: "score" }, hit.score.toFixed(2)), " ", words),
      el("p", { class: "acts" },
        el("button", { type: "button", title: "more like this (m)", "aria-label": `more like ${words}`, tabindex: -1, onclick: () => lean("like", hit) }, "+"),
        el("button", { type: "button", title: "less like this (l)", "aria-label": `less like ${words}`, tabindex: -1, onclick: () => lean("unlike", hit) }, "−")));
  }

  const look = (index) => openDetail(hits, index, {
    more: (hit) => lean("like", hit),
    less: (hit) => lean("unlike", hit),
    closed: (last) => rove(last),
  });

  function lean(name, hit) {
    if (query[name].includes(hit.id)) return;
    const other = name === "like" ? "unlike" : "like";
    query[other] = query[other].filter((id) => id !== hit.id);
    query[name] = [...query[name], hit.id].slice(-32);
    speak(`searching for ${name === "like" ? "more" : "less"} like this`);
    changed();
    window.scrollTo({ top: 0 });
  }

  // One tile can be reached with Tab, the others from it with arrows.
  function rove(index, focus = document.activeElement?.closest?.("#hits")) {
    for (const [at, item] of [...$("hits").children].entries()) {
      for (const button of item.querySelectorAll("button")) button.tabIndex = at === index ? 0 : -1;
    }
    if (focus) $("hits").children[index]?.querySelector(".open").focus();
  }

  $("hits").addEventListener("keydown", (event) => {
    const items = [...$("hits").children];
    const at = items.indexOf(event.target.closest("li"));
    if (at < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: items.length - 1 }[event.key] ?? row(items, at, event.key);
    if (event.key === "m") lean("like", hits[at]);
    else if (event.key === "l") lean("unlike", hits[at]);
    else if (items[next]) rove(next, true);
    else return;
    event.preventDefault();
  });

  function row(items, at, key) {
    if (key !== "ArrowDown" && key !== "ArrowUp") return undefined;
    const place = (item) => item.getBoundingClientRect();
    const here = place(items[at]);
    const middle = here.left + here.width / 2;
    const step = key === "ArrowDown" ? 1 : -1;
    let best;
    for (let index = at + step, top = null; items[index]; index += step) {
      const box = place(items[index]);
      if (Math.abs(box.top - here.top) < 4) continue;
      top ??= box.top;
      if (Math.abs(box.top - top) >= 4) break;
      const away = Math.abs(box.left + box.width / 2 - middle);
      if (!best || away < best.away) best = { index, away };
    }
    return best?.index;
  }

  function parts() {
    const drop = (name, value) => () => {
      query[name] = query[name].filter((one) => one !== value);
      changed();
    };
    const small = (id) => {
      const picture = el("img", { alt: "", width: 32, height: 32 });
      show(picture, `/v1/images/${encodeURIComponent(id)}/thumbnail?side=96`);
      return picture;
    };
    const sign = (text) => el("span", { class: "sign", "aria-hidden": "true" }, text);
    $("parts").replaceChildren(
      ...(query.picture ? [chip(el("img", { alt: "", width: 32, height: 32, src: query.picture.preview }), "the picture", () => usePicture(null))] : []),
      ...query.like.map((id) => chip([sign("+"), small(id)], "more like this picture", drop("like", id))),
      ...query.unlike.map((id) => chip([sign("−"), small(id)], "less like this picture", drop("unlike", id), "away")),
      ...query.not.map((word) => chip([sign("−"), word], word, drop("not", word), "away")));
    const refined = [query.where.trim() && "filter", query.least !== "" && "score", query.fold !== "" && "folded"].filter(Boolean);
    $("refined").textContent = refined.length ? `: ${refined.join(", ")}` : "";
  }

  function usePicture(picture) {
    if (query.picture) URL.revokeObjectURL(query.picture.preview);
    query.picture = picture;
    changed();
  }

  async function take([file]) {
    try {
      usePicture(await readPicture(file, about.limits.body_bytes / 2));
    } catch (problem) {
      tell(problem.message, true);
    }
  }

  function tell(text, wrong = false) {
    $("tally").textContent = text;
    $("tally").classList.toggle("error", wrong);
  }

  function complain(text) {
    const [what, ...place] = text.split("\n");
    $("where-error").replaceChildren(what, ...(place.length ? [el("span", { class: "place" }, place.join("\n"))] : []));
    fields.where.setAttribute("aria-invalid", Boolean(text));
    if (text) $("refine").open = true;
  }

  // Before anything is asked: what could be

  function start() {
    hits = [];
    $("hits").replaceChildren();
    $("more").hidden = true;
    tell("");
    complain("");
    if ($("search-start").childElementCount) return;
    $("search-start").replaceChildren(el("ul", { class: "examples", "aria-label": "Examples" },
      ...about.examples.slice(0, EXAMPLES).map((text) => {
        const strip = el("span", { class: "strip" }, ...Array.from({ length: PREVIEWS }, () => el("span", {})));
        preview(text, strip);
        return el("li", {}, el("button", { type: "button", onclick: () => use(text) }, el("span", { class: "words" }, text), strip));
      })));
  }

  async function preview(text, strip) {
    try {
      const found = await ask("/v1/search", { body: { text, k: PREVIEWS } });
      for (const [index, hit] of found.hits.entries()) {
        const picture = el("img", { alt: "" });
        show(picture, `${hit.thumbnail}?side=96`);
        strip.children[index].append(picture);
      }
    } catch {
      strip.remove(); // the words are enough
    }
  }

  function use(text) {
    query.text = fields.text.value = text;
    write();
    search();
  }

  // The address

  function write() {
    const words = new URLSearchParams();
    for (const [name, key] of [["text", "q"], ["where", "where"], ["least", "least"], ["fold", "fold"]]) {
      if (query[name].trim()) words.set(key, query[name].trim());
    }
    for (const name of ["not", "like", "unlike"]) for (const one of query[name]) words.append(name, one);
    told = words.toString();
    history.replaceState(null, "", told ? `#search?${told}` : "#search");
  }

  function read(words) {
    if (told === null && !words.has("q") && fields.text.value) words.set("q", fields.text.value); // typed before all was there
    for (const [name, key] of [["text", "q"], ["where", "where"], ["least", "least"], ["fold", "fold"]]) {
      query[name] = fields[name].value = words.get(key) ?? "";
    }
    for (const name of ["not", "like", "unlike"]) query[name] = words.getAll(name);
    parts();
    search();
  }

  for (const [name, field] of Object.entries(fields)) {
    field.addEventListener("input", () => {
      query[name] = field.value;
      changed();
    });
  }
  $("search-form").addEventListener("submit", (event) => {
    event.preventDefault();
    soon.cancel();
    search();
  });
  fields.text.addEventListener("keydown", (event) => {
    if (event.key === "ArrowDown" && hits.length) {
      event.preventDefault();
      rove(0, true);
    }
  });
  chipField($("not"), (words) => {
    query.not = [...new Set([...query.not, ...words])].slice(0, 32);
    changed();
  });
  $("search-choose").addEventListener("click", () => $("search-file").click());
  $("search-file").addEventListener("change", (event) => {
    if (event.target.files.length) take(event.target.files);
    event.target.value = "";
  });
  takePictures($("search"), take);
  offerColumns(about.store.columns, (text) => {
    fields.where.value = query.where = text;
    changed();
  });
  $("refine").open = recall("refine", false);
  $("refine").addEventListener("toggle", () => remember("refine", $("refine").open));
  $("more").addEventListener("click", () => search({ append: true }));
  new IntersectionObserver(([seen]) => {
    if (seen.isIntersecting && !$("more").hidden && hits.length < 1000) $("more").click();
  }, { rootMargin: "400px" }).observe($("more"));

  return {
    shown(words) {
      if (told !== null && !words.size) return write(); // back from another tab: all is as it was
      if (told !== words.toString()) read(words);
      told = words.toString();
    },
  };
}

// Offer the columns that a filter can use, each as the beginning of a comparison.
function offerColumns(columns, change) {
  const field = $("where");
  const sample = { number: "= ", text: 'contains "', date: ">= \"", "yes/no": "= true" };
  const numbers = columns.filter((column) => column.type === "number").map((column) => column.name);
  const text = columns.find((column) => column.type === "text");
  field.placeholder = numbers.includes("width") ? "width >= 640" : text ? `${text.name} contains "…"` : "";
  $("where-help").replaceChildren("Columns: ", ...columns.flatMap(({ name, type }, index) => [
    index ? ", " : "",
    el("button", {
      type: "button", class: "word", title: type,
      onclick: () => {
        const before = field.value.trimEnd();
        field.value = `${before}${before ? " and " : ""}${name} ${sample[type] ?? ""}`;
        field.focus();
        change(field.value);
      },
    }, name),
  ]), ". Join them with and, or, not.");
}

// A server without pictures says how it comes to some.
function without(what) {
  $("search-form").hidden = true;
  $("search-start").replaceChildren(el("div", { class: "empty" },
    el("h2", {}, what),
    el("p", {}, "Put pictures into a store, and serve it:"),
    el("pre", {}, "zebra embed MODEL PICTURES --out STORE\nzebra serve --store STORE"),
    el("p", {}, "PICTURES is a folder, a table or tar shards. Then load this page again.")));
  return {};
}
