// A heat map over an image: where it matches a text.

import { ApiError, fetchJson } from "./api.js";
import { el } from "./dom.js";

const MAX_OPACITY = 0.65;

// Return {form, canvas}: a field for the text, and an overlay, hidden until there is a map.
export function createHeatMap(row, text) {
  const canvas = el("canvas", { class: "heat-map", hidden: true, role: "img" });
  const input = el("input", { id: "heat-map-text", type: "text", autocomplete: "off", maxlength: 2000, value: text, placeholder: "a text" });
  const message = el("p", { class: "help", role: "status" });
  const hide = el("button", { type: "button", hidden: true, onclick: () => show(null) }, "Hide");
  const show = (map) => {
    canvas.hidden = hide.hidden = !map;
    if (map) draw(canvas, map);
  };
  const form = el("form", { class: "heat-map-form", onsubmit: async (event) => {
    event.preventDefault();
    if (!input.value.trim()) return show(null);
    message.textContent = "…";
    try {
      show(await fetchJson("v1/heat_map", { body: { image: { id: row.id }, text: input.value.trim() } }));
      canvas.setAttribute("aria-label", `where the image matches ${input.value.trim()}`);
      message.textContent = "Colored parts raise the match with the text.";
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      message.textContent = error.message;
    }
  } }, el("label", { for: "heat-map-text" }, "Where in the image is"),
  el("div", { class: "heat-map-fields" }, input, el("button", {}, "Show"), hide), message);
  return { form, canvas };
}

// Draw a cell per pixel; the style sheet enlarges them smoothly over the part of the image that the model sees.
function draw(canvas, { values, box: [left, top, right, bottom] }) {
  const highest = Math.max(1e-9, ...values.flat());
  canvas.width = values[0].length;
  canvas.height = values.length;
  const ctx = canvas.getContext("2d");
  const pixels = ctx.createImageData(canvas.width, canvas.height);
  for (const [index, value] of values.flat().entries()) {
    pixels.data.set([255, 80, 0, 255 * MAX_OPACITY * Math.max(0, value / highest)], 4 * index);
  }
  ctx.putImageData(pixels, 0, 0);
  const percent = (fraction) => `${100 * fraction}%`;
  for (const [name, value] of [["left", left], ["top", top], ["width", right - left], ["height", bottom - top]]) canvas.style.setProperty(name, percent(value));
}
