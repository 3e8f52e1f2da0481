// The detail dialog: one image, large, with its columns. Search and Map open it.

import { loadImage } from "./api.js";
import { $, el } from "./dom.js";

// hits: the images to page through. actions: {moreLike, lessLike}, called with the hit; onClose, called with its index.
export function openDetail(hits, index, actions = {}) {
  const dialog = $("detail");
  const runAction = (name) => {
    dialog.close();
    actions[name](hits[index]);
  };
  const navigate = (step) => {
    if (!hits[index + step]) return;
    index += step;
    render();
  };
  const render = () => dialog.replaceChildren(
    ...renderDetail(hits, index, actions, { runAction, navigate, close: () => dialog.close() }));
  dialog.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowRight") navigate(1);
    else if (event.key === "ArrowLeft") navigate(-1);
    else if (event.key === "m" && actions.moreLike) runAction("moreLike");
    else if (event.key === "l" && actions.lessLike) runAction("lessLike");
    else return;
    event.preventDefault();
  };
  dialog.onclick = (event) => event.target === dialog && dialog.close(); // the backdrop
  dialog.onclose = () => {
    dialog.replaceChildren();
    actions.onClose?.(index);
  };
  render();
  dialog.showModal();
}

function renderDetail(hits, index, actions, { runAction, navigate, close }) {
  const hit = hits[index];
  const missingNotice = el("p", { class: "missing", hidden: true }, "The file is missing; this is the thumbnail from the store.");
  const image = el("img", { alt: hit.caption ?? hit.name, width: hit.width, height: hit.height });
  image.addEventListener("error", () => {
    missingNotice.hidden = false;
    loadImage(image, `${hit.thumbnail}?side=384`);
  }, { once: true });
  loadImage(image, hit.image);
  const fields = [
    hit.score != null && ["score", hit.score.toFixed(3)],
    hit.width && ["size", `${hit.width} × ${hit.height}`],
    ["file", hit.path],
    ...Object.entries(hit.columns ?? {}).filter(([, value]) => value != null),
    hit.num_duplicates > 0 && ["near duplicates", String(hit.num_duplicates)],
  ].filter(Boolean);
  return [
    el("div", { class: "detail-image" }, image, missingNotice),
    el("div", { class: "detail-fields" },
      el("h2", { id: "detail-title" }, hit.caption ?? hit.name),
      el("dl", {}, ...fields.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, formatValue(value))))),
      el("p", { class: "detail-actions" },
        actions.moreLike && el("button", { type: "button", class: "primary", onclick: () => runAction("moreLike") }, "More like this"),
        actions.lessLike && el("button", { type: "button", onclick: () => runAction("lessLike") }, "Less like this")),
      hits.length > 1 && el("p", { class: "pager" },
        el("button", { type: "button", "aria-label": "previous image", disabled: index === 0, onclick: () => navigate(-1) }, "←"),
        el("span", {}, `${index + 1} of ${hits.length}`),
        el("button", { type: "button", "aria-label": "next image", disabled: index === hits.length - 1, onclick: () => navigate(1) }, "→"))),
    el("button", { type: "button", class: "close", "aria-label": "close", onclick: close }, "×"),
  ];
}

const formatValue = (value) => (Array.isArray(value) ? value.join("; ") : String(value));
