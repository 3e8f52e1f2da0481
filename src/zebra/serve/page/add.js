// The Add tab: put images into the store. The server offers it with --allow-add.

import { ApiError, fetchJson } from "./api.js";
import { $, el, pluralize } from "./dom.js";
import { addImageDropTarget, readImage, splitIntoBatches } from "./image_input.js";

export function mount(serverInfo) {
  const { limits } = serverInfo;
  const addedIds = [];
  let isStoreEmpty = !serverInfo.store.rows;
  const fileInput = el("input", { type: "file", accept: "image/*", multiple: true, hidden: true, tabindex: -1, onchange: () => {
    addFiles([...fileInput.files]);
    fileInput.value = "";
  } });
  const captionInput = el("input", { id: "add-caption", type: "text", maxlength: limits.text_length, autocomplete: "off", "aria-describedby": "add-help" });
  const status = el("p", { class: "summary", role: "status" });
  const show = el("button", { type: "button", class: "primary", hidden: true, onclick: showAdded }, "Show them");
  const problems = el("ul", { class: "add-problems", "aria-label": "Images that were not added" });
  const dropZone = el("button", { type: "button", class: "drop-zone", onclick: () => fileInput.click() },
    el("strong", {}, "Drop images here"), el("span", {}, "or choose or paste files"));
  $("add").replaceChildren(el("div", { class: "add-form" },
    el("div", {}, el("label", { for: "add-caption" }, "Caption of these images, if you like"), captionInput,
      el("p", { class: "help", id: "add-help" }, "JPEG, PNG, WebP and GIF files are stored as they are; others become PNG. Equal files are stored once.")),
    dropZone, fileInput, status, show, problems));

  async function addFiles(files) {
    const images = [];
    problems.replaceChildren();
    status.textContent = `Reading ${pluralize(files.length, "image")} …`;
    for (const file of files) {
      try {
        const { name, input, preview } = await readImage(file, limits.body_bytes / 2);
        URL.revokeObjectURL(preview);
        images.push({ name, input });
      } catch (error) {
        addProblem(error.message);
      }
    }
    let numNew = 0, numKnown = 0;
    const ids = [];
    try {
      for (const batch of splitIntoBatches(images, limits)) {
        const caption = captionInput.value.trim();
        const body = { images: batch.map(({ name, input }) => ({ data: input.data, name, ...(caption && { caption }) })) };
        const response = await fetchJson("v1/add", { body });
        ids.push(...response.ids);
        numNew += response.num_new;
        numKnown += response.ids.length - response.num_new;
        for (const { reason } of response.skipped) addProblem(reason);
        status.textContent = `Added ${ids.length} of ${images.length} …`;
      }
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      addProblem(error.message);
    }
    addedIds.push(...ids);
    show.hidden = !addedIds.length;
    status.textContent = `${pluralize(numNew, "image")} added${numKnown ? `, ${numKnown} were there before` : ""}.`;
  }

  function addProblem(text) {
    problems.append(el("li", { class: "error" }, text));
  }

  function showAdded() {
    if (!isStoreEmpty) return document.dispatchEvent(new CustomEvent("show-images", { detail: [...addedIds] }));
    location.hash = "search";
    location.reload(); // the Search tab has explained an empty store
  }

  addImageDropTarget($("add"), addFiles);
  return {};
}
