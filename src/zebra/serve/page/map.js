// The Map tab: the store's vectors in two dimensions, colored by a column or by the nearest label.

import { ApiError, fetchJson, loadImage, sleep } from "./api.js";
import { openDetail } from "./detail.js";
import { $, addChipInput, announce, captionSubject, createChip, el, formatCount, pluralize } from "./dom.js";
import { ScatterPlot } from "./scatter_plot.js";

const NUM_COLORS = 8;
const LABELS_OPTION = "";
const MAX_TEMPLATES = 8; // a label's vector is the mean over so many of the model's templates

export async function mount(serverInfo) {
  const panel = $("map");
  if (!serverInfo.map || !serverInfo.store?.rows) {
    panel.replaceChildren(el("div", { class: "empty" }, el("h2", {}, serverInfo.store ? "The store is empty." : "No store to map."),
      el("p", {}, "Embed images into a store and serve it:"),
      el("pre", {}, "zebra embed MODEL IMAGES --out STORE\nzebra serve --store STORE")));
    return {};
  }
  const points = await waitForMap(panel);
  if (!points) return {};
  new MapView(panel, points, serverInfo);
  return {};
}

// Wait until the map is computed; return null and show the error if it cannot be computed.
async function waitForMap(panel) {
  const message = el("p", {}, "Computing the map: similar images are placed close together.");
  panel.replaceChildren(el("div", { class: "map-loading", role: "status" }, el("span", { class: "progress-animation" }), message,
    el("p", { class: "help" }, "About 30 seconds for 5,000 images, the first time only.")));
  for (;;) {
    try {
      const response = await fetchJson("v1/map");
      if (response.state === "ready") return response;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      panel.replaceChildren(el("div", { class: "empty" }, el("h2", {}, "Could not load the map."), el("p", { class: "error" }, error.message),
        el("p", {}, "Reload the page to try again.")));
      return null;
    }
    await sleep(1);
  }
}

class MapView {
  constructor(panel, points, serverInfo) {
    this.points = points;
    this.templates = serverInfo.model.templates.slice(0, MAX_TEMPLATES);
    this.labels = [...new Set(serverInfo.examples.slice(0, 6).map(captionSubject))];
    this.selectedGroup = null;
    this.groups = []; // {name, colorVariable, count}; null for a column of numbers
    this.describe = () => ""; // index → text of the tooltip
    const canvas = el("canvas", {
      tabindex: 0, role: "application", "aria-roledescription": "map",
      "aria-label": `${pluralize(points.num_points, "image")} by similarity. Arrow keys pan, plus and minus zoom, 0 resets, Enter opens the image in the center.`,
    });
    this.tooltip = el("div", { class: "tooltip", hidden: true });
    this.legend = el("div", { class: "legend-list" });
    this.error = el("p", { class: "error", role: "alert" });
    this.columnSelect = el("select", { id: "map-color", onchange: () => this.updateColors() },
      el("option", { value: LABELS_OPTION }, "labels"), ...points.columns.map((name) => el("option", { value: name }, name)));
    this.columnSelect.value = points.columns[0] ?? LABELS_OPTION;
    this.labelInput = el("input", { id: "map-labels", type: "text", autocomplete: "off", placeholder: "horse, cat, …", maxlength: 2000 });
    this.labelChips = el("ul", { class: "chips", "aria-label": "Labels" });
    this.labelFieldset = el("div", { class: "label-field" }, el("label", { for: "map-labels" }, "Labels; each image gets the nearest one"), this.labelInput);
    addChipInput(this.labelInput, (names) => this.setLabels([...new Set([...this.labels, ...names])]));
    this.plot = new ScatterPlot(canvas, points, {
      hover: (index, x, y) => this.hover(index, x, y),
      select: (index) => this.openPoint(index),
      thumbnailUrl: (index) => `${this.imageUrl(index)}/thumbnail?side=96`,
    });
    const zoomButton = (text, label, onClick) => el("button", { type: "button", "aria-label": label, onclick: onClick }, text);
    const countText = points.num_rows > points.num_points
      ? ` A random sample of ${formatCount(points.num_points)} of ${pluralize(points.num_rows, "image")}.`
      : ` ${pluralize(points.num_points, "image")}.`;
    panel.replaceChildren(
      el("div", { class: "map-controls" },
        el("div", { class: "field" }, el("label", { for: "map-color" }, "Color by"), this.columnSelect),
        this.labelFieldset),
      this.labelChips, this.error,
      el("p", { class: "status" }, `Similar images are close together.${countText}`),
      el("div", { class: "map-layout" }, el("div", { class: "map-plot" }, canvas,
        el("div", { class: "zoom" },
          zoomButton("+", "zoom in", () => this.plot.zoom(1.6)), zoomButton("−", "zoom out", () => this.plot.zoom(1 / 1.6)),
          zoomButton("Reset", "reset the view", () => this.plot.reset())), this.tooltip), this.legend));
    this.plot.resize();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.applyColors());
    document.addEventListener("theme-change", () => this.applyColors());
    this.updateColors();
  }

  imageUrl(index) {
    return `v1/images/${encodeURIComponent(this.points.ids[index])}`;
  }

  // Colors

  async updateColors() {
    const name = this.columnSelect.value;
    this.labelFieldset.hidden = this.labelChips.hidden = name !== LABELS_OPTION;
    this.selectedGroup = null;
    try {
      if (name === LABELS_OPTION) await this.colorByLabels();
      else await this.colorByColumn(name);
      this.error.textContent = "";
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.error.textContent = error.message;
    }
    this.applyColors();
  }

  setLabels(labels) {
    this.labels = labels;
    this.updateColors();
  }

  async colorByLabels() {
    this.labelChips.replaceChildren(...this.labels.map((label) =>
      createChip(label, label, () => this.setLabels(this.labels.filter((item) => item !== label)))));
    if (!this.labels.length) return this.setGroups([]);
    const vectors = await Promise.all(this.labels.map((label) => this.embedLabel(label)));
    const { nearest } = await fetchJson("v1/map/nearest", { body: { vectors } });
    this.setGroups(nearest.map((labelIndex) => this.labels[labelIndex]));
  }

  // The unit vector of a label: the mean over the model's templates.
  async embedLabel(label) {
    const texts = this.templates.map((template) => template.replace(/\{c?\}/, () => label));
    const { vectors } = await fetchJson("v1/embed", { body: { texts } });
    const mean = vectors[0].map((_, index) => vectors.reduce((sum, vector) => sum + vector[index], 0));
    const norm = Math.hypot(...mean);
    return mean.map((value) => value / norm);
  }

  async colorByColumn(name) {
    const { kind, values } = await fetchJson(`v1/map/columns/${encodeURIComponent(name)}`);
    if (kind === "category") return this.setGroups(values);
    const presentValues = values.filter((value) => value !== null);
    const low = presentValues.reduce((a, b) => Math.min(a, b), Infinity);
    const high = presentValues.reduce((a, b) => Math.max(a, b), -Infinity);
    this.groups = null;
    this.range = { low, high, fractions: values.map((value) => (value === null ? null : (value - low) / (high - low || 1))) };
    const formatNumber = (value) => (value > 1e8 ? new Date(1000 * value).toISOString().slice(0, 10) : formatCount(value)); // seconds since 1970 are a date
    this.describe = (index) => (values[index] === null ? "" : `${name} ${formatNumber(values[index])}`);
    this.legend.replaceChildren(el("div", {}, el("div", { class: "color-ramp" }),
      el("p", { class: "color-ramp-labels" }, el("span", {}, formatNumber(low)), el("span", {}, formatNumber(high)))));
  }

  // The most frequent values get a color each; the others form one group.
  setGroups(values) {
    const counts = new Map();
    for (const value of values) if (value !== null) counts.set(value, (counts.get(value) ?? 0) + 1);
    const names = [...counts.keys()].sort((a, b) => counts.get(b) - counts.get(a) || (a < b ? -1 : 1));
    const groupIndex = new Map(names.map((name, index) => [name, Math.min(index, NUM_COLORS)]));
    this.groups = names.slice(0, NUM_COLORS).map((name, index) => ({ name, colorVariable: `--series-${index + 1}`, count: counts.get(name) }));
    const numGrouped = this.groups.reduce((sum, group) => sum + group.count, 0);
    if (numGrouped < this.points.num_points) {
      this.groups.push({ name: this.groups.length ? "other" : "all", colorVariable: "--muted-color", count: this.points.num_points - numGrouped });
    }
    this.groupOf = this.points.ids.map((_, index) => groupIndex.get(values[index]) ?? this.groups.length - 1);
    this.describe = (index) => values[index] ?? "";
    this.legend.replaceChildren(...this.groups.map((group, index) => el("button", {
      type: "button", "aria-pressed": "false", onclick: () => this.toggleGroup(index),
    }, el("span", { class: "swatch", style: { "--series-color": `var(${group.colorVariable})` } }), el("span", { class: "legend-name", title: group.name }, group.name),
    el("span", { class: "count" }, formatCount(group.count)))));
  }

  toggleGroup(index) {
    this.selectedGroup = this.selectedGroup === index ? null : index;
    for (const [position, button] of [...this.legend.children].entries()) button.setAttribute("aria-pressed", position === this.selectedGroup);
    announce(this.selectedGroup === null ? "all groups" : `only ${this.groups[index].name}`);
    this.applyColors();
  }

  applyColors() {
    const cssColor = (name) => { // resolved, as a canvas needs it: light-dark() depends on the theme
      this.legend.style.color = `var(${name})`;
      const { color } = getComputedStyle(this.legend);
      this.legend.style.color = "";
      return color;
    };
    if (this.groups) {
      const colors = this.groups.map((group) => cssColor(group.colorVariable));
      this.plot.setColors((index) => colors[this.groupOf[index]], (index) => this.selectedGroup === null || this.groupOf[index] === this.selectedGroup);
    } else {
      const steps = Array.from({ length: 16 }, (_, step) =>
        `color-mix(in srgb, ${cssColor("--accent-color")} ${Math.round((100 * step) / 15)}%, ${cssColor("--border-color")})`);
      const { fractions } = this.range;
      this.plot.setColors((index) => (fractions[index] === null ? cssColor("--muted-color") : steps[Math.round(15 * fractions[index])]), (index) => fractions[index] !== null);
    }
  }

  // Points

  hover(index, x, y) {
    this.tooltip.hidden = index === null;
    if (index === null) return;
    if (this.hoveredIndex !== index) {
      this.hoveredIndex = index;
      const image = el("img", { alt: "" });
      loadImage(image, `${this.imageUrl(index)}/thumbnail?side=192`);
      this.tooltip.replaceChildren(image, ...(this.describe(index) ? [el("p", {}, this.describe(index))] : []));
    }
    const bounds = this.tooltip.parentElement.getBoundingClientRect();
    const [width, height] = [this.tooltip.offsetWidth, this.tooltip.offsetHeight];
    const left = x + 16 + width > bounds.width ? x - width - 16 : x + 16;
    this.tooltip.style.setProperty("--x", `${Math.max(4, left)}px`);
    this.tooltip.style.setProperty("--y", `${Math.max(4, Math.min(y - height / 2, bounds.height - height - 4))}px`);
  }

  async openPoint(index) {
    try {
      const row = await fetchJson(`v1/rows/${encodeURIComponent(this.points.ids[index])}`);
      openDetail([row], 0);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.error.textContent = error.message;
    }
  }
}
