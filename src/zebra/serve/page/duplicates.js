// The Duplicates tab: groups of images whose vectors are nearly equal, to select all but one of each.

import { ApiError, fetchJson, sleep } from "./api.js";
import { $, debounce, el, formatCount, pluralize } from "./dom.js";
import { openDetail } from "./detail.js";
import { ImageGrid } from "./grid.js";
import { selection } from "./selection.js";

const PAGE_SIZE = 20;
const DEFAULT_COSINE = 0.98;

export function mount() {
  let groups = [];
  let abortController = null;
  const status = el("p", { class: "status", role: "status" });
  const list = el("div", { class: "duplicate-groups" });
  const more = el("button", { type: "button", class: "more-button", hidden: true, onclick: () => load({ append: true }) }, "Show more");
  const output = el("output", { for: "min-cosine" });
  const slider = el("input", { id: "min-cosine", type: "range", min: 0.9, max: 1, step: 0.005, value: DEFAULT_COSINE, "aria-describedby": "min-cosine-help" });
  const selectAll = el("button", { type: "button", hidden: true, onclick: () => selection.addIds(groups.flatMap((group) => group.ids.slice(1))) }, "Select all but the first of each group shown");
  $("duplicates").replaceChildren(
    el("div", { class: "duplicate-controls" },
      el("div", {}, el("label", { for: "min-cosine" }, "Similarity of at least "), output, slider,
        el("p", { class: "help", id: "min-cosine-help" }, "1 is the same picture; lower values also find crops, other sizes and other colors.")),
      selectAll),
    status, list, more);

  async function load({ append = false } = {}) {
    if (!append) {
      abortController?.abort();
      abortController = new AbortController();
    }
    const { signal } = abortController;
    const body = { min_cosine: Number(slider.value), k: PAGE_SIZE, offset: append ? groups.length : 0 };
    try {
      for (;;) {
        const response = await fetchJson("v1/duplicates", { body, signal });
        if (response.state === "ready") return render(response, append, signal);
        status.textContent = "Comparing all images with each other …";
        list.classList.add("is-loading");
        await sleep(0.5);
      }
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      status.textContent = error.message;
    }
  }

  function render(response, append, signal) {
    list.classList.remove("is-loading");
    const first = append ? groups.length : 0;
    groups = append ? [...groups, ...response.groups] : response.groups;
    const sections = response.groups.map((group, index) => renderGroup(group, first + index, signal));
    if (append) list.append(...sections);
    else list.replaceChildren(...sections);
    more.hidden = !response.more;
    selectAll.hidden = !groups.length;
    status.textContent = response.num_groups
      ? `${pluralize(response.num_groups, "group")} with ${pluralize(response.num_duplicates, "copy", "copies")} besides the first image of each`
      : "No image has a near duplicate. Lower the similarity to find more.";
  }

  function renderGroup(group, index, signal) {
    const gridList = el("ul", { class: "hit-grid", "aria-label": `Group ${index + 1}` });
    const grid = new ImageGrid(gridList, { open: (position) => openDetail(group.rows, position, { onClose: (last) => grid.setFocused(last, true) }) }, signal);
    grid.setRows(group.rows);
    const numHidden = group.ids.length - group.rows.length;
    return el("section", { class: "duplicate-group" },
      el("div", { class: "group-heading" }, el("h2", { class: "minor" }, pluralize(group.ids.length, "image")),
        el("button", { type: "button", class: "text-button", "aria-label": `Select all but the first of group ${index + 1}`, onclick: () => selection.addIds(group.ids.slice(1)) }, "Select all but the first")),
      gridList,
      numHidden > 0 && el("p", { class: "help" }, `and ${formatCount(numHidden)} more`));
  }

  const scheduleLoad = debounce(300, () => load());
  const showValue = () => (output.textContent = Number(slider.value).toFixed(3));
  slider.addEventListener("input", () => {
    showValue();
    scheduleLoad();
  });
  showValue();
  load();
  return {};
}
