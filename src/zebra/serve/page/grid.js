// A grid of images with one Tab stop: arrow keys move, Enter opens, x selects. Search and Duplicates use it.

import { loadImage, thumbnailUrl } from "./api.js";
import { el, pluralize } from "./dom.js";
import { selection } from "./selection.js";

export class ImageGrid {
  // handlers: open(index); optional: like(row), unlike(row). The grid is forgotten when the signal aborts.
  constructor(list, handlers, signal) {
    this.list = list;
    this.handlers = handlers;
    this.rows = [];
    this.lastToggled = null; // for ranges with Shift
    list.addEventListener("keydown", (event) => this.handleKey(event));
    selection.addEventListener("change", () => this.updateSelection(), { signal });
  }

  setRows(rows) {
    this.rows = rows;
    this.list.replaceChildren(...rows.map((row, index) => this.renderItem(row, index)));
    this.updateSelection();
    this.setFocused(0);
  }

  append(rows) {
    const first = this.rows.length;
    this.rows = [...this.rows, ...rows];
    this.list.append(...rows.map((row, index) => this.renderItem(row, first + index)));
    this.updateSelection();
  }

  renderItem(row, index) {
    const image = el("img", { alt: "", loading: "lazy", decoding: "async" });
    loadImage(image, thumbnailUrl(row.id, 192));
    image.addEventListener("error", () => image.remove(), { once: true });
    const text = row.caption ?? row.name;
    const aspectRatio = row.width && row.height ? Math.min(2.5, Math.max(0.5, row.width / row.height)) : 1;
    const score = row.score == null ? "" : row.score.toFixed(2);
    const duplicates = row.num_duplicates ? `, ${pluralize(row.num_duplicates, "near duplicate")}` : "";
    const action = (name, sign, title, key) => this.handlers[name] && el("button", {
      type: "button", title: `${title} like this (${key})`, "aria-label": `${title} like ${text}`, tabindex: -1, onclick: () => this.handlers[name](row),
    }, sign);
    return el("li", { style: { "--aspect-ratio": aspectRatio.toFixed(3) } },
      el("button", {
        type: "button", class: "open", tabindex: -1, "aria-label": `${text}${score && `, score ${score}`}${duplicates}`,
        onclick: () => this.handlers.open(index), onfocus: () => this.setFocused(index, false),
      }, image, row.num_duplicates > 0 && el("span", { class: "duplicates", title: "near duplicates" }, `+${row.num_duplicates}`)),
      el("input", {
        type: "checkbox", class: "select", title: "select (x)", "aria-label": `select ${text}`, tabindex: -1,
        onclick: (event) => this.toggle(index, event.target.checked, event.shiftKey),
      }),
      el("p", { class: "caption", "aria-hidden": "true" }, score && el("span", { class: "score" }, score), score && " ", text),
      el("p", { class: "hit-actions" }, action("like", "+", "more", "m"), action("unlike", "−", "less", "l")));
  }

  // Select or deselect an image; with Shift, all from the one that was toggled before.
  toggle(index, isSelected = !selection.has(this.rows[index].id), isRange = false) {
    const first = isRange && this.lastToggled !== null ? this.lastToggled : index;
    this.lastToggled = index;
    const range = this.rows.slice(Math.min(first, index), Math.max(first, index) + 1);
    if (isSelected) selection.add(range);
    else for (const row of range) selection.toggle(row, false);
  }

  updateSelection() {
    for (const [index, item] of [...this.list.children].entries()) {
      const isSelected = selection.has(this.rows[index]?.id);
      item.classList.toggle("is-selected", isSelected);
      item.querySelector(".select").checked = isSelected;
    }
  }

  // Roving tabindex: Tab reaches one image and its buttons, arrow keys move to the others.
  setFocused(index, focus = this.list.contains(document.activeElement)) {
    for (const [position, item] of [...this.list.children].entries()) {
      for (const control of item.querySelectorAll("button, input")) control.tabIndex = position === index ? 0 : -1;
    }
    if (focus) this.list.children[index]?.querySelector(".open").focus();
  }

  handleKey(event) {
    const items = [...this.list.children];
    const index = items.indexOf(event.target.closest("li"));
    if (index < 0 || event.altKey) return;
    if (event.ctrlKey || event.metaKey) {
      if (event.key !== "a") return;
      selection.add(this.rows);
    } else if (event.key === "x") this.toggle(index);
    else if (event.key === "X") this.toggle(index, true, true);
    else if (event.key === "m" && this.handlers.like) this.handlers.like(this.rows[index]);
    else if (event.key === "l" && this.handlers.unlike) this.handlers.unlike(this.rows[index]);
    else {
      const next = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: items.length - 1 }[event.key] ?? verticalNeighbor(items, index, event.key);
      if (!items[next]) return;
      this.setFocused(next, true);
    }
    event.preventDefault();
  }
}

// Return the index of the item above or below, in the nearest column.
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
