// Help in the Search tab: columns for filter expressions, and how to fill a store.

import { $, el } from "./dom.js";

// List the columns that a filter can use; a click appends the beginning of a comparison.
export function renderColumnHelp(columns, onChange) {
  const field = $("where");
  const filterTemplate = { number: "= ", text: 'contains "', date: ">= \"", "yes/no": "= true" };
  const numberNames = columns.filter((column) => column.type === "number").map((column) => column.name);
  const textColumn = columns.find((column) => column.type === "text");
  field.placeholder = numberNames.includes("width") ? "width >= 640" : textColumn ? `${textColumn.name} contains "…"` : "";
  $("where-help").replaceChildren("Columns: ", ...columns.flatMap(({ name, type }, index) => [
    index ? ", " : "",
    el("button", {
      type: "button", class: "link-button", title: type,
      onclick: () => {
        const prefix = field.value.trimEnd();
        field.value = `${prefix}${prefix ? " and " : ""}${name} ${filterTemplate[type] ?? ""}`;
        field.focus();
        onChange(field.value);
      },
    }, name),
  ]), ". Combine with and, or, not.");
}

// Explain how to create or fill a store.
export function renderEmpty(message, canAdd = false) {
  $("search-form").hidden = $("filters").hidden = $("results-bar").hidden = true;
  $("search-start").replaceChildren(el("div", { class: "empty" },
    el("h2", {}, message),
    canAdd && el("p", {}, el("a", { href: "#add" }, "Add images"), " here, or embed a folder:"),
    !canAdd && el("p", {}, "Embed images into a store and serve it:"),
    el("pre", { tabindex: 0 }, "zebra embed MODEL IMAGES --out STORE\nzebra serve --store STORE"),
    el("p", {}, "IMAGES is a folder, a table or tar shards. Then reload this page.")));
  return {};
}
