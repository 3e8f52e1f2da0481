// One picture, large, with everything that is known of it; Search and Map open it.

import { show } from "/page/api.js";
import { $, el } from "/page/dom.js";

// hits: what can be leafed through; actions: {more, less}, each called with the hit when its button is pressed.
export function openDetail(hits, index, actions = {}) {
  const dialog = $("detail");
  const act = (name) => {
    dialog.close();
    actions[name](hits[index]);
  };
  const turn = (step) => {
    if (!hits[index + step]) return;
    index += step;
    fill();
  };
  const fill = () => dialog.replaceChildren(...content(hits, index, actions, { act, turn, close: () => dialog.close() }));
  dialog.onkeydown = (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === "ArrowRight") turn(1);
    else if (event.key === "ArrowLeft") turn(-1);
    else if (event.key === "m" && actions.more) act("more");
    else if (event.key === "l" && actions.less) act("less");
    else return;
    event.preventDefault();
  };
  dialog.onclick = (event) => event.target === dialog && dialog.close(); // the backdrop
  dialog.onclose = () => {
    dialog.replaceChildren();
    actions.closed?.(index);
  };
  fill();
  dialog.showModal();
}

function content(hits, index, actions, { act, turn, close }) {
  const hit = hits[index];
  const gone = el("p", { class: "gone", hidden: true }, "The file is gone from disk; this is what the store kept of it.");
  const picture = el("img", { alt: hit.caption ?? hit.name, width: hit.width, height: hit.height });
  picture.addEventListener("error", () => {
    gone.hidden = false;
    show(picture, `${hit.thumbnail}?side=384`);
  }, { once: true });
  show(picture, hit.image);
  const facts = [
    hit.score != null && ["score", hit.score.toFixed(3)],
    hit.width && ["size", `${hit.width} × ${hit.height}`],
    ["file", hit.name],
    ...Object.entries(hit.columns ?? {}).filter(([, value]) => value != null),
    hit.folded > 0 && ["near duplicates", String(hit.folded)],
  ].filter(Boolean);
  return [
    el("div", { class: "stage" }, picture, gone),
    el("div", { class: "facts" },
      el("h2", { id: "detail-title" }, hit.caption ?? hit.name),
      el("dl", {}, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, word(value))))),
      el("p", { class: "deeds" },
        actions.more && el("button", { type: "button", class: "main", onclick: () => act("more") }, "More like this"),
        actions.less && el("button", { type: "button", onclick: () => act("less") }, "Less like this")),
      hits.length > 1 && el("p", { class: "turn" },
        el("button", { type: "button", "aria-label": "previous picture", disabled: index === 0, onclick: () => turn(-1) }, "←"),
        el("span", {}, `${index + 1} of ${hits.length}`),
        el("button", { type: "button", "aria-label": "next picture", disabled: index === hits.length - 1, onclick: () => turn(1) }, "→"))),
    el("button", { type: "button", class: "close", "aria-label": "close", onclick: close }, "×"),
  ];
}

const word = (value) => (Array.isArray(value) ? value.join("; ") : String(value));
