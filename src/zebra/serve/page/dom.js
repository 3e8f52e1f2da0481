// Small words for making and finding elements; every tab uses them.

export const $ = (id) => document.getElementById(id);

// Make an element: on… are listeners, "style" maps CSS names to values, the rest are attributes (false and null: none).
export function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name === "style") for (const [key, one] of Object.entries(value)) node.style.setProperty(key, one);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false));
  return node;
}

// Call once the calls have paused.
export function later(milliseconds, action) {
  let timer = 0;
  const delayed = (...words) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...words), milliseconds);
  };
  delayed.cancel = () => clearTimeout(timer);
  return delayed;
}

// Tell those who listen rather than look.
export function speak(text) {
  $("spoken").textContent = text;
}

export const count = (number) => number.toLocaleString("en");
export const plural = (number, one, many = `${one}s`) => `${count(number)} ${number === 1 ? one : many}`;
export const percent = (share) => (share === 1 ? "100%" : `${(100 * share).toFixed(1)}%`);

// Words from a text field that become chips at Enter or a comma.
export function chipField(input, add) {
  const take = () => {
    const words = input.value.split(",").map((word) => word.trim()).filter(Boolean);
    input.value = "";
    if (words.length) add(words);
  };
  input.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      take();
    }
  });
  input.addEventListener("input", () => input.value.includes(",") && take());
  input.addEventListener("change", take);
}

export function chip(content, name, remove, kind = "") {
  return el("li", { class: `chip ${kind}` }, content,
    el("button", { type: "button", "aria-label": `remove ${name}`, onclick: remove }, "×"));
}

// Remember between visits; a browser that keeps nothing costs memory alone.
export function recall(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(`zebra-${name}`)) ?? otherwise;
  } catch {
    return otherwise;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(`zebra-${name}`, JSON.stringify(value));
    return true;
  } catch {
    return false;
  }
}

// A caption less its opening words and its full stop: "a photo of a striped pig." → "striped pig".
export const subject = (caption) => caption.replace(/[.]$/, "").replace(/^(.*\b(of|is) )?(an?|the) /i, "");
