// The selected images of all tabs, and the bar at the bottom of the window that acts on them.

import { ApiError, fetchBlob, fetchJson, imageUrl } from "./api.js";
import { $, announce, el, formatCount, pluralize } from "./dom.js";
import { copyText, saveBlob, saveCsv } from "./export.js";

const ROWS_PER_REQUEST = 200;
const MAX_LIKE = 32; // reference images of one query, as the server allows

class Selection extends EventTarget {
  #rows = new Map(); // id → row, or null while only the id is known

  has = (id) => this.#rows.has(id);
  get size() {
    return this.#rows.size;
  }
  get ids() {
    return [...this.#rows.keys()];
  }

  toggle(row, isSelected = !this.has(row.id)) {
    if (isSelected) this.#rows.set(row.id, row);
    else this.#rows.delete(row.id);
    this.#changed();
  }

  add(rows) {
    for (const row of rows) this.#rows.set(row.id, row);
    this.#changed();
  }

  addIds(ids) {
    for (const id of ids) if (!this.has(id)) this.#rows.set(id, null);
    this.#changed();
  }

  clear() {
    this.#rows.clear();
    this.#changed();
  }

  #changed() {
    this.dispatchEvent(new Event("change"));
    announce(`${pluralize(this.size, "image")} selected`);
  }

  // Return the rows, and fetch those of which only the id is known.
  async rows() {
    const missing = this.ids.filter((id) => !this.#rows.get(id));
    for (let start = 0; start < missing.length; start += ROWS_PER_REQUEST) {
      const ids = missing.slice(start, start + ROWS_PER_REQUEST);
      const { rows } = await fetchJson("v1/rows", { body: { ids, k: ROWS_PER_REQUEST } });
      for (const row of rows) if (this.has(row.id)) this.#rows.set(row.id, row);
    }
    return [...this.#rows.values()].filter(Boolean);
  }
}

export const selection = new Selection();

export function mountSelectionBar(limits) {
  const bar = $("selection-bar");
  const count = el("strong", {});
  const message = el("span", { class: "selection-message", role: "status" });
  const run = (action) => async () => {
    message.textContent = "";
    try {
      message.textContent = (await action()) ?? "";
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      message.textContent = error.message;
    }
  };
  const button = (text, action) => el("button", { type: "button", onclick: run(action) }, text);
  bar.replaceChildren(count,
    button("Copy paths", async () => {
      await copyText((await selection.rows()).map((row) => row.path).join("\n"));
      return "Copied.";
    }),
    button("CSV", async () => saveCsv(rowsToTable(await selection.rows()), "images.csv")),
    button("Download", () => download(limits.download)),
    button("More like these", () => (location.hash = `search?${new URLSearchParams(selection.ids.slice(0, MAX_LIKE).map((id) => ["like", id]))}`) && undefined),
    button("Show only these", () => document.dispatchEvent(new CustomEvent("show-images", { detail: selection.ids }))),
    el("button", { type: "button", class: "text-button", onclick: () => selection.clear() }, "Clear"),
    message);
  selection.addEventListener("change", () => {
    bar.hidden = !selection.size;
    document.body.classList.toggle("has-selection", !bar.hidden);
    count.textContent = `${formatCount(selection.size)} selected`;
    message.textContent = "";
  });
}

// Save one original as it is, several as a zip file.
async function download(maxFiles) {
  const rows = await selection.rows();
  if (rows.length === 1) return downloadOriginal(rows[0]);
  if (rows.length > maxFiles) return `A zip file holds up to ${formatCount(maxFiles)} images; select fewer.`;
  saveBlob(await fetchBlob("v1/download", { body: { ids: rows.map((row) => row.id) } }), "images.zip");
  return "";
}

export async function downloadOriginal(row) {
  const blob = await fetchBlob(imageUrl(row.id));
  saveBlob(blob, row.name.includes(".") ? row.name : `${row.name}.${blob.type.split("/")[1] ?? "bin"}`);
}

// Return a header and a line for each row.
export function rowsToTable(rows) {
  const columns = [...new Set(rows.flatMap((row) => Object.keys(row.columns ?? {})))];
  const hasScores = rows.some((row) => row.score != null);
  const header = ["path", "caption", ...(hasScores ? ["score"] : []), "width", "height", ...columns, "id"];
  const cells = (row) => [row.path, row.caption, ...(hasScores ? [row.score] : []), row.width, row.height, ...columns.map((name) => row.columns?.[name]), row.id];
  return [header, ...rows.map(cells)];
}
