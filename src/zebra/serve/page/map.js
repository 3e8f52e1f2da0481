// The Map tab: the store's vectors in two dimensions, colored by a column, by clusters or by the nearest label.

import { ApiError, fetchJson, loadImage, sleep, thumbnailUrl } from "./api.js";
import { openDetail } from "./detail.js";
import { $, addChipInput, announce, captionSubject, createChip, el, formatCount, pluralize } from "./dom.js";
import { ScatterPlot } from "./scatter_plot.js";
import { selection } from "./selection.js";

const NUM_COLORS = 12;
const LABELS_OPTION = "labels"; // values of the selection of colors; those of columns begin with a colon
const CLUSTERS_OPTION = "clusters";
const MAX_LIT = 200; // hits of a query that are lit
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
  const view = new MapView(panel, points, serverInfo);
  return { onShow: () => view.lightQuery($("query").value) };
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
    this.groupOf = points.ids.map(() => 0);
    this.litText = "";
    this.lit = null; // indices of the hits of a query, or null
    this.indexById = new Map(points.ids.map((id, index) => [id, index]));
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
      ...points.columns.map((name) => el("option", { value: `:${name}` }, name)),
      el("option", { value: CLUSTERS_OPTION }, "clusters"), el("option", { value: LABELS_OPTION }, "labels of mine"));
    this.columnSelect.value = points.default_column ? `:${points.default_column}` : CLUSTERS_OPTION;
    this.queryInput = el("input", { id: "map-query", type: "text", autocomplete: "off", placeholder: "a text, then Enter", maxlength: 2000, onchange: () => this.lightQuery(this.queryInput.value) });
    this.selectButton = el("button", { type: "button", hidden: true, onclick: () => this.selectHighlighted() });
    this.lassoButton = el("button", { type: "button", "aria-pressed": "false", title: "draw around images to select them", onclick: () => this.toggleLasso() }, "Lasso");
    this.labelInput = el("input", { id: "map-labels", type: "text", autocomplete: "off", placeholder: "horse, cat, …", maxlength: 2000 });
    this.labelChips = el("ul", { class: "chips", "aria-label": "Labels" });
    this.labelFieldset = el("div", { class: "label-field" }, el("label", { for: "map-labels" }, "Labels; each image gets the nearest one"), this.labelInput);
    addChipInput(this.labelInput, (names) => this.setLabels([...new Set([...this.labels, ...names])]));
    this.plot = new ScatterPlot(canvas, points, {
      hover: (index, x, y) => this.hover(index, x, y),
      select: (index) => this.openPoint(index),
      lasso: (indices) => selection.addIds(indices.map((index) => points.ids[index])),
      thumbnailUrl: (index) => thumbnailUrl(points.ids[index], 96),
    });
    const zoomButton = (text, label, onClick) => el("button", { type: "button", "aria-label": label, onclick: onClick }, text);
    const countText = points.num_rows > points.num_points
      ? ` A random sample of ${formatCount(points.num_points)} of ${pluralize(points.num_rows, "image")}.`
      : ` ${pluralize(points.num_points, "image")}.`;
    panel.replaceChildren(
      el("div", { class: "map-controls" },
        el("div", { class: "field" }, el("label", { for: "map-color" }, "Color by"), this.columnSelect),
        el("div", { class: "field" }, el("label", { for: "map-query" }, "Light up"), this.queryInput),
        this.labelFieldset),
      this.labelChips, this.error,
      el("p", { class: "status" }, `Similar images are close together.${countText}`),
      el("div", { class: "map-layout" }, el("div", { class: "map-plot" }, canvas,
        el("div", { class: "zoom" },
          this.lassoButton, zoomButton("+", "zoom in", () => this.plot.zoomIn(1.6)), zoomButton("−", "zoom out", () => this.plot.zoom(1 / 1.6)),
          zoomButton("Reset", "reset the view", () => this.plot.reset())), this.tooltip),
      el("div", {}, this.legend, this.selectButton)));
    this.plot.resize();
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.applyColors());
    document.addEventListener("theme-change", () => this.applyColors());
    this.updateColors();
  }

  // Highlight the best hits of a text, or all points without one.
  async lightQuery(text) {
    this.queryInput.value = text;
    if (text === this.litText) return;
    this.litText = text;
    this.lit = null;
    try {
      if (text.trim()) {
        const { hits } = await fetchJson("v1/search", { body: { text, k: MAX_LIT } });
        this.lit = new Set(hits.map((hit) => this.indexById.get(hit.id)).filter((index) => index !== undefined));
        announce(`${pluralize(this.lit.size, "image")} lit`);
      }
      this.error.textContent = "";
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.error.textContent = error.message;
    }
    this.applyColors();
  }

  toggleLasso() {
    this.plot.isLassoOn = !this.plot.isLassoOn;
    this.lassoButton.setAttribute("aria-pressed", String(this.plot.isLassoOn));
  }

  isHighlighted(index) {
    const isOfGroup = this.groups ? this.selectedGroup === null || this.groupOf[index] === this.selectedGroup : this.range.fractions[index] !== null;
    return isOfGroup && (this.lit === null || this.lit.has(index));
  }

  selectHighlighted() {
    selection.addIds(this.points.ids.filter((_, index) => this.isHighlighted(index)));
  }

  // Colors

  async updateColors() {
    const option = this.columnSelect.value;
    this.labelFieldset.hidden = this.labelChips.hidden = option !== LABELS_OPTION;
    this.selectedGroup = null;
    const request = (this.colorRequest = {});
    this.legend.setAttribute("aria-busy", "true");
    try {
      const show = await (option === LABELS_OPTION ? this.colorByLabels() : option === CLUSTERS_OPTION ? this.colorByClusters() : this.colorByColumn(option.slice(1)));
      if (this.colorRequest !== request) return; // another choice was made meanwhile
      show();
      this.error.textContent = "";
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      this.error.textContent = error.message;
    }
    this.legend.removeAttribute("aria-busy");
    this.applyColors();
  }

  setLabels(labels) {
    this.labels = labels;
    this.updateColors();
  }

  // The methods below fetch what they need, and return a function that shows it.

  async colorByLabels() {
    this.labelChips.replaceChildren(...this.labels.map((label) =>
      createChip(label, label, () => this.setLabels(this.labels.filter((item) => item !== label)))));
    if (!this.labels.length) return () => this.setGroups([]);
    const vectors = await Promise.all(this.labels.map((label) => this.embedLabel(label)));
    const { nearest } = await fetchJson("v1/map/nearest", { body: { vectors } });
    const { labels } = this;
    return () => this.setGroups(nearest.map((labelIndex) => labels[labelIndex]));
  }

  async colorByClusters() {
    const { values } = await fetchJson("v1/map/clusters");
    return () => this.setGroups(values);
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
    return () => (kind === "category" ? this.setGroups(values) : this.setRange(name, values));
  }

  setRange(name, values) {
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
      this.plot.setColors((index) => colors[this.groupOf[index]], (index) => this.isHighlighted(index));
    } else {
      const steps = Array.from({ length: 16 }, (_, step) =>
        `color-mix(in srgb, ${cssColor("--accent-color")} ${Math.round((100 * step) / 15)}%, ${cssColor("--border-color")})`);
      const { fractions } = this.range;
      this.plot.setColors((index) => (fractions[index] === null ? cssColor("--muted-color") : steps[Math.round(15 * fractions[index])]), (index) => this.isHighlighted(index));
    }
    const isPartial = this.lit !== null || (this.groups && this.selectedGroup !== null);
    this.selectButton.hidden = !isPartial;
    if (isPartial) this.selectButton.textContent = `Select ${pluralize(this.points.ids.filter((_, index) => this.isHighlighted(index)).length, "image")}`;
  }

  // Points

  hover(index, x, y) {
    this.tooltip.hidden = index === null;
    if (index === null) return;
    if (this.hoveredIndex !== index) {
      this.hoveredIndex = index;
      const image = el("img", { alt: "" });
      loadImage(image, thumbnailUrl(this.points.ids[index], 192));
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
