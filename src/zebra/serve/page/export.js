// Take results out of the page: clipboard, CSV, files.

// Copy text; without a secure context (plain HTTP from another machine) browsers only copy a selection.
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    (document.querySelector("dialog[open]") ?? document.body).append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
}

export function saveBlob(blob, name) {
  const url = URL.createObjectURL(blob);
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}

// Format rows of cells as CSV (RFC 4180, but with plain newlines).
export function toCsv(rows) {
  const escapeCell = (cell) => {
    const text = cell == null ? "" : Array.isArray(cell) ? cell.join("; ") : String(cell);
    return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  return rows.map((cells) => `${cells.map(escapeCell).join(",")}\n`).join("");
}

export const saveCsv = (rows, name) => saveBlob(new Blob([toCsv(rows)], { type: "text/csv" }), name);
