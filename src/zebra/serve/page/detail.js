// The detail dialog: one image, large, with its columns, its neighbors and what to do with it. All tabs open it.

import { ApiError, fetchJson, imageUrl, loadImage, thumbnailUrl } from "./api.js";
import { $, el } from "./dom.js";
import { copyText } from "./export.js";
import { createHeatMap } from "./heat_map.js";
import { downloadOriginal, selection } from "./selection.js";

const NUM_NEIGHBORS = 8;
const MAX_ENLARGEMENT = 2;

// rows: the images to page through. actions: like(row), unlike(row), and filter(name, value), which returns whether the
// column can be filtered by the value; onClose(index). Without actions, a search by URL takes their place.
export function openDetail(rows, index, actions = {}) {
  const dialog = $("detail");
  const view = { rows, index };
  const act = (name, ...args) => {
    dialog.close();
    (actions[name] ?? searchByUrl[name])(...args);
  };
  const show = (newRows, newIndex) => {
    if (!newRows[newIndex]) return;
    Object.assign(view, { rows: newRows, index: newIndex });
    render();
  };
  const render = () => {
    const controlName = dialog.contains(document.activeElement) ? document.activeElement.getAttribute("aria-label") : null;
    dialog.replaceChildren(...renderDetail(view, { act, show, close: () => dialog.close() }));
    const control = controlName && dialog.querySelector(`[aria-label="${CSS.escape(controlName)}"]:not(:disabled)`);
    (control ?? dialog.querySelector(".close")).focus();
  };
  dialog.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest("input, textarea")) return;
    const row = view.rows[view.index];
    if (event.key === "ArrowRight") show(view.rows, view.index + 1);
    else if (event.key === "ArrowLeft") show(view.rows, view.index - 1);
    else if (event.key === "m") act("like", row);
    else if (event.key === "l") act("unlike", row);
    else if (event.key === "x") dialog.querySelector(".select-this")?.click();
    else return;
    event.preventDefault();
  };
  dialog.onclick = (event) => { // the backdrop; a handler that returns false would cancel the click
    if (event.target === dialog) dialog.close();
  };
  dialog.onclose = () => {
    dialog.replaceChildren();
    if (view.rows === rows) actions.onClose?.(view.index);
  };
  dialog.showModal();
  render();
}

const searchByUrl = {
  like: (row) => (location.hash = `search?${new URLSearchParams({ like: row.id })}`),
  unlike: (row) => (location.hash = `search?${new URLSearchParams({ unlike: row.id })}`),
  filter: (name, value) => (location.hash = `search?${new URLSearchParams({ [`f.${name}`]: value })}`),
};

function renderDetail({ rows, index }, { act, show, close }) {
  const row = rows[index];
  const status = el("p", { class: "help", role: "status" });
  const heatMap = createHeatMap(row, $("query").value);
  const neighbors = el("ul", { class: "neighbors", "aria-label": "Nearest images" });
  loadNeighbors(row, neighbors, show);
  const copyButton = el("button", { type: "button", onclick: async () => {
    await copyText(row.path);
    status.textContent = "Path copied.";
  } }, "Copy path");
  const downloadButton = el("button", { type: "button", onclick: async () => {
    try {
      await downloadOriginal(row);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      status.textContent = error.message;
    }
  } }, "Download");
  const selectButton = el("button", { type: "button", class: "select-this", "aria-pressed": String(selection.has(row.id)), onclick: () => {
    selection.toggle(row);
    selectButton.setAttribute("aria-pressed", String(selection.has(row.id)));
  } }, "Select");
  return [
    el("div", { class: "detail-image" }, ...renderImage(row, heatMap.canvas)),
    el("div", { class: "detail-fields" },
      el("h2", { id: "detail-title" }, row.caption ?? row.name),
      el("p", { class: "detail-path" }, row.path),
      el("p", { class: "detail-actions" },
        el("button", { type: "button", class: "primary", onclick: () => act("like", row) }, "More like this"),
        el("button", { type: "button", onclick: () => act("unlike", row) }, "Less like this"),
        selectButton, copyButton, downloadButton),
      status,
      el("dl", {}, ...describeRow(row).map(([name, value, canFilter]) => el("div", {}, el("dt", {}, name), el("dd", {}, canFilter
        ? el("button", { type: "button", class: "link-button", title: `only images with this ${name}`, onclick: () => act("filter", name, value) }, formatValue(value))
        : formatValue(value))))),
      heatMap.form,
      neighbors,
      rows.length > 1 && el("p", { class: "pager" },
        el("button", { type: "button", "aria-label": "previous image", disabled: index === 0, onclick: () => show(rows, index - 1) }, "←"),
        el("span", {}, `${index + 1} of ${rows.length}`),
        el("button", { type: "button", "aria-label": "next image", disabled: index === rows.length - 1, onclick: () => show(rows, index + 1) }, "→"))),
    el("button", { type: "button", class: "close", "aria-label": "close", onclick: close }, "×"),
  ];
}

// The original, at most enlarged twice, with visible pixels then; the stored thumbnail if the file is missing.
function renderImage(row, overlay) {
  const missingNotice = el("p", { class: "missing", hidden: true }, "The file is missing; this is the thumbnail from the store.");
  const image = el("img", { alt: row.caption ?? row.name, width: row.width, height: row.height });
  const frame = el("div", { class: "image-frame" }, image, overlay);
  const fit = (width, height) => {
    frame.style.setProperty("--max-width", `${MAX_ENLARGEMENT * width}px`);
    frame.style.setProperty("--aspect-ratio", width / height);
    image.classList.toggle("is-enlarged", image.clientWidth > width);
  };
  image.addEventListener("load", () => fit(image.naturalWidth, image.naturalHeight));
  image.addEventListener("error", () => {
    missingNotice.hidden = false;
    loadImage(image, thumbnailUrl(row.id, 384));
  }, { once: true });
  loadImage(image, imageUrl(row.id));
  if (row.width && row.height) fit(row.width, row.height);
  return [frame, missingNotice];
}

// [name, value, whether it can be a filter]
function describeRow(row) {
  return [
    row.score != null && ["score", row.score.toFixed(3)],
    row.width && ["size", `${row.width} × ${row.height}`],
    ...Object.entries(row.columns ?? {}).filter(([, value]) => value != null).map(([name, value]) => [name, value, !Array.isArray(value)]),
    row.num_duplicates > 0 && ["near duplicates", String(row.num_duplicates)],
  ].filter(Boolean);
}

async function loadNeighbors(row, list, show) {
  try {
    const { hits } = await fetchJson("v1/search", { body: { like: [row.id], k: NUM_NEIGHBORS } });
    list.replaceChildren(...hits.map((hit, index) => {
      const image = el("img", { alt: "" });
      loadImage(image, thumbnailUrl(hit.id, 96));
      const name = hit.caption ?? hit.name;
      return el("li", {}, el("button", { type: "button", class: "open", title: `${name}, ${hit.score.toFixed(2)}`, "aria-label": `open ${name}`, onclick: () => show(hits, index) }, image));
    }));
  } catch (error) {
    if (!(error instanceof ApiError)) throw error;
    list.replaceChildren(el("li", { class: "help" }, error.message));
  }
}

const formatValue = (value) => (Array.isArray(value) ? value.join("; ") : value === true ? "yes" : value === false ? "no" : String(value).replace("T00:00:00", ""));
