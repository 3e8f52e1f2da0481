// DOM helpers, text formatting and stored settings, shared by all tabs.

export const $ = (id) => document.getElementById(id);

// Create an element: on… attributes are listeners, "style" maps CSS properties to values, false and null are left out.
export function el(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, propertyValue] of Object.entries(value)) element.style.setProperty(key, propertyValue);
    else if (value === true) element.setAttribute(name, "");
    else if (value !== false && value != null) element.setAttribute(name, value);
  }
  element.append(...children.flat().filter((child) => child != null && child !== false));
  return element;
}

export function debounce(milliseconds, callback) {
  let timer = 0;
  const debounced = (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => callback(...args), milliseconds);
  };
  debounced.cancel = () => clearTimeout(timer);
  return debounced;
}

// Announce a change to screen readers.
export function announce(text) {
  $("live-region").textContent = text;
}

export const formatCount = (number) => number.toLocaleString("en");
export const pluralize = (count, singular, plural = `${singular}s`) => `${formatCount(count)} ${count === 1 ? singular : plural}`;
export const formatPercent = (fraction) => (fraction === 1 ? "100%" : `${(100 * fraction).toFixed(1)}%`);

// Call onAdd with the values of a text field at Enter or a comma, and clear the field.
export function addChipInput(input, onAdd) {
  const commit = () => {
    const values = input.value.split(",").map((value) => value.trim()).filter(Boolean);
    input.value = "";
    if (values.length) onAdd(values);
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      commit();
    }
  });
  input.addEventListener("input", () => input.value.includes(",") && commit());
  input.addEventListener("change", commit);
}

export function createChip(content, name, onRemove, className = "") {
  return el("li", { class: `chip ${className}` }, content,
    el("button", { type: "button", "aria-label": `remove ${name}`, onclick: onRemove }, "×"));
}

// Settings are kept in localStorage. If the browser blocks it, they are lost at the next visit.
export function loadSetting(name, fallback) {
  try {
    return JSON.parse(localStorage.getItem(`zebra-${name}`)) ?? fallback;
  } catch {
    return fallback;
  }
}

export function saveSetting(name, value) {
  try {
    localStorage.setItem(`zebra-${name}`, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

// Return a caption without its opening and its period: "a photo of a striped pig." → "striped pig".
export const captionSubject = (caption) => caption.replace(/[.]$/, "").replace(/^(.*\b(of|is) )?(an?|the) /i, "");
