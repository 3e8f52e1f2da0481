// The Map tab: the store's vectors as points of a plane, coloured by a column or by the nearest of some labels.

import { ask, Problem, show, wait } from "/page/api.js";
import { Chart } from "/page/chart.js";
import { openDetail } from "/page/detail.js";
import { $, chip, chipField, count, el, plural, speak, subject } from "/page/dom.js";

const HUES = 8;
const BY_LABELS = "";
const TEMPLATE = "a photo of a {}.";

export async function open(about) {
  const panel = $("map");
  if (!about.map || !about.store?.rows) {
    panel.replaceChildren(el("div", { class: "empty" }, el("h2", {}, about.store ? "The store is empty." : "There is no store to map."),
      el("p", {}, "Put pictures into a store, and serve it:"),
      el("pre", {}, "zebra embed MODEL PICTURES --out STORE\nzebra serve --store STORE")));
    return {};
  }
  const points = await layOut(panel);
  if (!points) return {};
  new Atlas(panel, points, about);
  return {};
}

// Wait until the map is made; null if it cannot be, and the panel says why.
async function layOut(panel) {
  const said = el("p", {}, "Laying out the pictures, so that what is alike lies together.");
  panel.replaceChildren(el("div", { class: "waiting-for-map", role: "status" }, el("span", { class: "pacing" }), said,
    el("p", { class: "help" }, "Half a minute for 5,000; only the first time.")));
  for (;;) {
    try {
      const found = await ask("/v1/map");
      if (found.state === "ready") return found;
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      panel.replaceChildren(el("div", { class: "empty" }, el("h2", {}, "The map cannot be shown."), el("p", { class: "error" }, problem.message),
        el("p", {}, "Reload the page to try again.")));
      return null;
    }
    await wait(1);
  }
}

class Atlas {
  constructor(panel, points, about) {
    this.points = points;
    this.labels = [...new Set(about.examples.slice(0, 6).map(subject))];
    this.isolated = null;
    this.groups = []; // {name, hue, members}
    this.says = () => ""; // of a point, in a word
    const canvas = el("canvas", {
      tabindex: 0, role: "application", "aria-roledescription": "map",
      "aria-label": `${plural(points.shown, "picture")} by likeness. Arrows move, plus and minus zoom, 0 shows all, Enter opens the picture in the middle.`,
    });
    this.card = el("div", { class: "card", hidden: true });
    this.key = el("div", { class: "key-list" });
    this.error = el("p", { class: "error", role: "alert" });
    this.by = el("select", { id: "colour", onchange: () => this.colour() },
      el("option", { value: BY_LABELS }, "labels in words"), ...points.columns.map((name) => el("option", { value: name }, name)));
    this.by.value = points.columns[0] ?? BY_LABELS;
    this.field = el("input", { id: "map-labels", type: "text", autocomplete: "off", placeholder: "horse, cat, …", maxlength: 2000 });
    this.chips = el("ul", { class: "chips", "aria-label": "Labels" });
    this.words = el("div", { class: "words" }, el("label", { for: "map-labels" }, "Labels; each picture takes the nearest"), this.field);
    chipField(this.field, (names) => this.put([...new Set([...this.labels, ...names])]));
    this.chart = new Chart(canvas, points, {
      hover: (index, x, y) => this.hover(index, x, y),
      pick: (index) => this.look(index),
      picture: (index) => `${this.address(index)}/thumbnail?side=96`,
    });
    const zoom = (label, words, act) => el("button", { type: "button", "aria-label": words, onclick: act }, label);
    const left = points.rows > points.shown ? ` ${count(points.shown)} of ${plural(points.rows, "picture")}, drawn by lot.` : ` ${plural(points.shown, "picture")}.`;
    panel.replaceChildren(
      el("div", { class: "bench" },
        el("div", { class: "field" }, el("label", { for: "colour" }, "Colour by"), this.by),
        this.words),
      this.chips, this.error,
      el("p", { class: "tally" }, `What is alike lies together.${left}`),
      el("div", { class: "atlas" }, el("div", { class: "sea" }, canvas,
        el("div", { class: "zoom" },
          zoom("+", "zoom in", () => this.chart.zoom(1.6)), zoom("−", "zoom out", () => this.chart.zoom(1 / 1.6)),
          zoom("All", "show all", () => this.chart.reset())), this.card), this.key));
    this.chart.fit();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.paint());
    this.colour();
  }

  address(index) {
    return `/v1/images/${encodeURIComponent(this.points.ids[index])}`;
  }

  // What a point is coloured by

  async colour() {
    const name = this.by.value;
    this.words.hidden = this.chips.hidden = name !== BY_LABELS;
    this.isolated = null;
    try {
      if (name === BY_LABELS) await this.byLabels();
      else await this.byColumn(name);
      this.error.textContent = "";
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.error.textContent = problem.message;
    }
    this.paint();
  }

  put(labels) {
    this.labels = labels;
    this.colour();
  }

  async byLabels() {
    this.chips.replaceChildren(...this.labels.map((label) => chip(label, label, () => this.put(this.labels.filter((one) => one !== label)))));
    if (!this.labels.length) return this.group([]);
    const { vectors } = await ask("/v1/embed", { body: { texts: this.labels.map((label) => TEMPLATE.replace("{}", label)) } });
    const { nearest } = await ask("/v1/map/nearest", { body: { vectors } });
    this.group(nearest.map((number) => this.labels[number]));
  }

  async byColumn(name) {
    const { kind, values } = await ask(`/v1/map/columns/${encodeURIComponent(name)}`);
    if (kind === "category") return this.group(values);
    const known = values.filter((value) => value !== null);
    const [low, high] = [known.reduce((a, b) => Math.min(a, b), Infinity), known.reduce((a, b) => Math.max(a, b), -Infinity)];
    this.groups = null;
    this.range = { low, high, shares: values.map((value) => (value === null ? null : (value - low) / (high - low || 1))) };
    const word = (value) => (value > 1e8 ? new Date(1000 * value).toISOString().slice(0, 10) : count(value));
    this.says = (index) => (values[index] === null ? "" : `${name} ${word(values[index])}`);
    this.key.replaceChildren(el("div", {}, el("div", { class: "ramp" }), el("p", { class: "ends" }, el("span", {}, word(low)), el("span", {}, word(high)))));
  }

  // The most frequent values get a hue each; the rest are one group.
  group(values) {
    const counts = new Map();
    for (const value of values) if (value !== null) counts.set(value, (counts.get(value) ?? 0) + 1);
    const names = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || (a < b ? -1 : 1));
    const number = new Map(names.map((name, index) => [name, Math.min(index, HUES)]));
    this.groups = names.slice(0, HUES).map((name, index) => ({ name, hue: `--hue-${index + 1}`, members: counts.get(name) }));
    const shown = this.groups.reduce((sum, group) => sum + group.members, 0);
    if (shown < this.points.shown) this.groups.push({ name: this.groups.length ? "other" : "all", hue: "--muted", members: this.points.shown - shown });
    this.member = this.points.ids.map((_, index) => number.get(values[index]) ?? this.groups.length - 1);
    this.says = (index) => values[index] ?? "";
    this.key.replaceChildren(...this.groups.map((group, index) => el("button", {
      type: "button", "aria-pressed": "false", onclick: () => this.isolate(index),
    }, el("span", { class: "swatch", style: { "--hue": `var(${group.hue})` } }), el("span", { class: "what", title: group.name }, group.name),
    el("span", { class: "n" }, count(group.members)))));
  }

  isolate(index) {
    this.isolated = this.isolated === index ? null : index;
    for (const [at, button] of [...this.key.children].entries()) button.setAttribute("aria-pressed", at === this.isolated);
    speak(this.isolated === null ? "all groups" : `only ${this.groups[index].name}`);
    this.paint();
  }

  paint() {
    const style = getComputedStyle(document.documentElement);
    const colour = (name) => style.getPropertyValue(name).trim();
    if (this.groups) {
      const hues = this.groups.map((group) => colour(group.hue));
      this.chart.paint((index) => hues[this.member[index]], (index) => this.isolated === null || this.member[index] === this.isolated);
    } else {
      const steps = Array.from({ length: 16 }, (_, step) => `color-mix(in srgb, ${colour("--accent")} ${Math.round((100 * step) / 15)}%, ${colour("--faint")})`);
      const { shares } = this.range;
      this.chart.paint((index) => (shares[index] === null ? colour("--muted") : steps[Math.round(15 * shares[index])]), (index) => shares[index] !== null);
    }
  }

  // One point

  hover(index, x, y) {
    this.card.hidden = index === null;
    if (index === null) return;
    if (this.hovered !== index) {
      this.hovered = index;
      const picture = el("img", { alt: "" });
      show(picture, `${this.address(index)}/thumbnail?side=192`);
      this.card.replaceChildren(picture, ...(this.says(index) ? [el("p", {}, this.says(index))] : []));
    }
    const box = this.card.parentElement.getBoundingClientRect();
    const [width, height] = [this.card.offsetWidth, this.card.offsetHeight];
    const left = x + 16 + width > box.width ? x - width - 16 : x + 16;
    this.card.style.setProperty("--x", `${Math.max(4, left)}px`);
    this.card.style.setProperty("--y", `${Math.max(4, Math.min(y - height / 2, box.height - height - 4))}px`);
  }

  async look(index) {
    try {
      const row = await ask(`/v1/rows/${encodeURIComponent(this.points.ids[index])}`);
      const lean = (name) => (hit) => (location.hash = `search?${new URLSearchParams({ [name]: hit.id })}`);
      openDetail([row], 0, { more: lean("like"), less: lean("unlike") });
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      this.error.textContent = problem.message;
    }
  }
}
