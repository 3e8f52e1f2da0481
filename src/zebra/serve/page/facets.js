// Filters from the columns: values as chips with counts, numbers and dates as ranges with a histogram.

import { fetchJson } from "./api.js";
import { debounce, el, formatCount } from "./dom.js";
import { rangeFilter, valuesFilter } from "./filters.js";

const NUM_CHIPS = 8; // of a column, until all are asked for
const VALUE_PREFIX = "f."; // of URL parameters
const RANGE_PREFIX = "r.";

export class Facets {
  // onChange is called after each change by the user, onUnknown(name, values) for a column of the URL without a facet.
  constructor(container, onChange, onUnknown) {
    this.container = container;
    this.onChange = onChange;
    this.onUnknown = onUnknown;
    this.views = new Map(); // name → CategoryFacet or RangeFacet
    this.pending = new Map(); // name → selection from the URL, until the column is known
  }

  // The selections as filters by column.
  get filters() {
    return Object.fromEntries(this.#active().map(([name, view]) => [name, view.filter]));
  }

  // [{name, text, remove}] for display.
  get descriptions() {
    return this.#active().map(([name, view]) => ({ name, text: `${name}: ${view.text}`, remove: () => view.clear() }));
  }

  #active() {
    return [...this.views].filter(([, view]) => view.filter);
  }

  // Whether the URL selects values of columns that are not fetched yet.
  get hasPending() {
    return this.pending.size > 0;
  }

  clear() {
    for (const view of this.views.values()) view.clear(false);
    this.pending.clear();
  }

  writeParams(params) {
    for (const [, view] of this.#active()) view.writeParams(params);
  }

  readParams(params) {
    this.clear();
    for (const key of new Set(params.keys())) {
      if (key.startsWith(VALUE_PREFIX)) this.pending.set(key.slice(2), params.getAll(key));
      if (key.startsWith(RANGE_PREFIX)) this.pending.set(key.slice(2), params.getAll(key));
    }
    this.#applyPending();
  }

  // Add a value of a row to the selection. Returns false if the column has no facet.
  select(name, value) {
    const view = this.views.get(name);
    view?.select(value);
    return Boolean(view);
  }

  // Fetch the counts under a filter, and show them. Returns nothing; AbortError and ApiError pass.
  async update(where, signal) {
    const body = { ...(where && { where }), selections: this.filters };
    const { facets } = await fetchJson("v1/facets", { body, signal });
    for (const facet of facets) {
      if (!this.views.has(facet.name)) {
        const View = facet.kind === "category" ? CategoryFacet : RangeFacet;
        const view = new View(facet, () => this.onChange());
        this.views.set(facet.name, view);
        this.container.append(view.element);
      }
    }
    const byName = new Map(facets.map((facet) => [facet.name, facet]));
    for (const [name, view] of this.views) view.show(byName.get(name));
    const hadPending = this.#applyPending();
    for (const [name, values] of this.pending) this.onUnknown(name, values);
    this.pending.clear();
    if (hadPending) await this.update(where, signal); // the counts under these selections
  }

  #applyPending() {
    let wasApplied = false;
    for (const [name, values] of [...this.pending]) {
      if (!this.views.has(name)) continue;
      this.views.get(name).readParams(values);
      this.pending.delete(name);
      wasApplied = true;
    }
    return wasApplied;
  }
}

class CategoryFacet {
  constructor(facet, onChange) {
    this.name = facet.name;
    this.onChange = onChange;
    this.values = []; // in the order in which they were first seen, so that chips stay in place
    this.counts = new Map();
    this.selected = new Set();
    this.isExpanded = false;
    this.chips = new Map(); // value → {item, label, input, count}
    this.moreItem = null;
    this.list = el("ul", { class: "facet-values" });
    this.element = el("fieldset", { class: "facet" }, el("legend", {}, facet.name), this.list);
  }

  get filter() {
    return this.selected.size ? valuesFilter(this.name, [...this.selected]) : "";
  }

  get text() {
    return [...this.selected].map(formatValue).join(", ");
  }

  select(value) {
    this.selected = new Set([value]);
    this.render();
    this.onChange();
  }

  clear(notify = true) {
    this.selected.clear();
    this.render();
    if (notify) this.onChange();
  }

  writeParams(params) {
    for (const value of this.selected) params.append(VALUE_PREFIX + this.name, value);
  }

  readParams(texts) {
    const byText = new Map(this.values.map((value) => [String(value), value]));
    this.selected = new Set(texts.map((text) => byText.get(text) ?? text));
    this.render();
  }

  show(facet) {
    const { values } = facet ?? { values: [] };
    this.counts = new Map(values.map(({ value, count }) => [value, count]));
    for (const { value } of values) if (!this.values.includes(value)) this.values.push(value);
    if (this.values.every((value) => typeof value === "number")) this.values.sort((a, b) => a - b);
    this.render();
  }

  // Chips that stay are updated in place, so that a click or the focus is not lost when counts arrive.
  render() {
    const shown = this.isExpanded ? this.values : this.values.filter((value, index) => index < NUM_CHIPS || this.selected.has(value));
    const numHidden = this.values.length - shown.length;
    this.chips = new Map(shown.map((value) => [value, this.chips.get(value) ?? this.createChip(value)]));
    const items = [...this.chips.values()].map((chip) => chip.item);
    if (numHidden) {
      this.moreItem ??= el("li", {}, el("button", { type: "button", class: "link-button", onclick: () => this.expand() }));
      this.moreItem.firstChild.textContent = `${formatCount(numHidden)} more`;
      items.push(this.moreItem);
    }
    if (items.length !== this.list.children.length || items.some((item, index) => item !== this.list.children[index])) {
      const focused = document.activeElement;
      this.list.replaceChildren(...items);
      if (this.list.contains(focused)) focused.focus();
    }
    for (const [value, chip] of this.chips) {
      const count = this.counts.get(value) ?? 0;
      chip.input.checked = this.selected.has(value);
      chip.count.textContent = formatCount(count);
      chip.label.classList.toggle("is-empty", !count);
    }
  }

  expand() {
    const firstHidden = this.values.findIndex((value, index) => index >= NUM_CHIPS && !this.selected.has(value));
    this.isExpanded = true;
    this.render();
    this.list.querySelectorAll("input")[firstHidden]?.focus();
  }

  createChip(value) {
    const input = el("input", { type: "checkbox", "data-value": value, onchange: () => {
      if (input.checked) this.selected.add(value);
      else this.selected.delete(value);
      this.onChange();
    } });
    const count = el("span", { class: "count" });
    const label = el("label", { class: "facet-chip" }, input, el("span", { class: "facet-name" }, formatValue(value)), " ", count);
    return { item: el("li", {}, label), label, input, count };
  }
}

class RangeFacet {
  constructor(facet, onChange) {
    this.name = facet.name;
    this.kind = facet.kind;
    this.onChange = onChange;
    const scheduleChange = debounce(300, onChange);
    const ends = this.kind === "date" ? { low: facet.low?.slice(0, 10), high: facet.high?.slice(0, 10) } : facet;
    const field = (end, label) => el("input", {
      type: this.kind === "date" ? "date" : "number", step: "any", "aria-label": `${facet.name} ${label}`,
      min: ends.low, max: ends.high, placeholder: ends[end] == null ? "" : formatNumber(ends[end]), oninput: scheduleChange,
    });
    this.inputs = { low: field("low", "from"), high: field("high", "to") };
    this.histogram = el("div", { class: "histogram", "aria-hidden": "true" });
    this.element = el("fieldset", { class: "facet" }, el("legend", {}, facet.name), this.histogram,
      el("div", { class: "range-fields" }, this.inputs.low, el("span", { "aria-hidden": "true" }, "–"), this.inputs.high));
  }

  get ends() {
    const value = (input) => (input.validity.badInput ? "" : input.value);
    return { low: value(this.inputs.low), high: value(this.inputs.high) };
  }

  get filter() {
    return rangeFilter(this.name, this.kind, this.ends);
  }

  get text() {
    const { low, high } = this.ends;
    return low && high ? (low === high ? low : `${low} to ${high}`) : low ? `from ${low}` : `to ${high}`;
  }

  setEnds(low, high) {
    this.inputs.low.value = low;
    this.inputs.high.value = high;
  }

  select(value) {
    const text = this.kind === "date" ? String(value).slice(0, 10) : String(value);
    this.setEnds(text, text);
    this.onChange();
  }

  clear(notify = true) {
    this.setEnds("", "");
    if (notify) this.onChange();
  }

  writeParams(params) {
    const { low, high } = this.ends;
    params.append(RANGE_PREFIX + this.name, `${low}..${high}`);
  }

  readParams([text]) {
    const [low, high = low] = text.split("..").map((end) => (this.kind === "date" ? end.slice(0, 10) : end));
    this.setEnds(low, high);
  }

  show(facet) {
    const counts = facet?.histogram ?? [];
    const highest = Math.max(1, ...counts);
    this.histogram.replaceChildren(...counts.map((count) => el("i", { style: { "--height": Math.sqrt(count / highest).toFixed(3) } })));
  }
}

const formatNumber = (value) => (typeof value === "number" ? String(Number(value.toPrecision(6))) : value);
const formatValue = (value) => (value === true ? "yes" : value === false ? "no" : String(value));
