// Filter expressions, as the server parses them.

export const quoteColumn = (name) => (/^[\p{L}_][\p{L}\p{N}_]*$/u.test(name) && !KEYWORDS.has(name.toLowerCase()) ? name : `\`${name}\``);
export const quoteValue = (value) => (typeof value === "string" ? `"${value.replaceAll('"', '""')}"` : String(value));
export const joinFilters = (filters) => (filters.length > 1 ? filters.map((text) => `(${text})`).join(" and ") : filters[0] ?? "");

const KEYWORDS = new Set(["and", "or", "not", "in", "contains", "is", "null", "true", "false"]);

export function valuesFilter(name, values) {
  const column = quoteColumn(name);
  return values.length === 1 ? `${column} = ${quoteValue(values[0])}` : `${column} in (${values.map(quoteValue).join(", ")})`;
}

// ends: strings from number or date fields, empty where there is no limit. A date includes its whole day.
export function rangeFilter(name, kind, { low, high }) {
  const column = quoteColumn(name);
  return [
    low && `${column} >= ${low}`,
    high && (kind === "date" ? `${column} < ${nextDay(high)}` : `${column} <= ${high}`),
  ].filter(Boolean).join(" and ");
}

function nextDay(day) {
  const date = new Date(`${day}T00:00:00Z`);
  date.setUTCDate(date.getUTCDate() + 1);
  return date.toISOString().slice(0, 10);
}
