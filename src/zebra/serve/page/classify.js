// The Classify tab: the label of each image or "none of these", with prompt templates and for the label alone.

import { ApiError, fetchJson, loadImage, thumbnailUrl } from "./api.js";
import { openCodeDialog } from "./code_samples.js";
import { $, addChipInput, announce, captionSubject, createChip, debounce, el, formatPercent, loadSetting, pluralize, saveSetting } from "./dom.js";
import { saveCsv } from "./export.js";
import { addImageDropTarget, readImage, splitIntoBatches } from "./image_input.js";

const LABEL_ONLY = "{}";
const OWN_TEMPLATES = ""; // an empty field takes the model's templates
const TEMPLATE_NAMES = new Map([[OWN_TEMPLATES, "the model's own"], ["a photo of a {}.", "a photo of a {}."], [LABEL_ONLY, "label only"]]);
const NONE = "none of these";
const DEFAULT_THRESHOLD = 50; // percent
const MAX_BARS = 5;
const NUM_SAMPLES = 8;

export function mount(serverInfo) {
  // {name, input, render(img), scoresByKey: template and labels → scores, lastScores: arguments of renderBars, error}
  const images = [];
  let labels = loadSetting("labels", null) ?? [...new Set(serverInfo.examples.slice(0, 4).map(captionSubject))];
  const ownTemplates = serverInfo.model.templates;
  const isLabelOnly = (text) => text === LABEL_ONLY || (text === OWN_TEMPLATES && ownTemplates.length === 1 && ownTemplates[0] === LABEL_ONLY);
  let template = loadSetting("template", OWN_TEMPLATES);
  let threshold = loadSetting("threshold", DEFAULT_THRESHOLD);
  let isTable = loadSetting("classify-table", false);
  let abortController = null;

  const fileInput = el("input", { type: "file", accept: "image/*", multiple: true, hidden: true, tabindex: -1 });
  const labelList = el("ul", { class: "chips", "aria-label": "Labels" });
  const labelInput = el("input", { id: "labels", type: "text", autocomplete: "off", placeholder: "horse, zebra, …", maxlength: serverInfo.limits.text_length });
  const templateInput = el("input", {
    id: "template", type: "text", autocomplete: "off", spellcheck: "false", maxlength: serverInfo.limits.text_length,
    value: template, placeholder: ownTemplates.join(" | "), "aria-describedby": "template-error",
  });
  const thresholdInput = el("input", { id: "threshold", type: "number", min: 0, max: 100, step: 1, value: threshold, "aria-describedby": "threshold-help" });
  const templateError = el("p", { class: "error", id: "template-error", role: "alert" });
  const summary = el("p", { class: "summary", role: "status" });
  const imageList = el("ul", { class: "image-list", "aria-label": "Images with their labels" });
  const table = el("div", { class: "score-list", tabindex: 0, role: "region", "aria-label": "Answers", hidden: true });
  const tools = el("p", { class: "button-row classify-tools", hidden: true });
  const legend = el("p", { class: "legend" },
    el("span", {}, el("span", { class: "bar" }), "with the template"),
    el("span", {}, el("span", { class: "baseline-tick" }), "label only"));
  const dropButton = el("button", { type: "button", class: "drop-zone", onclick: () => fileInput.click() },
    el("strong", {}, "Drop images here"), el("span", {}, "or choose or paste files"));
  const sampleList = el("div", { class: "samples" });

  $("classify").replaceChildren(el("div", { class: "classify-layout" },
    el("div", { class: "classify-form" },
      el("div", {}, el("label", { for: "labels" }, "Labels"), labelInput, labelList, renderDatasetButtons(serverInfo, (names) => addLabels(names, true))),
      el("div", {}, el("label", { for: "template" }, "Template, with {} for the label"), templateInput, templateError,
        el("p", { class: "suggestions" }, ...[...TEMPLATE_NAMES].map(([text, name]) =>
          el("button", { type: "button", class: "link-button", onclick: () => setTemplate(text) }, name)))),
      el("div", { class: "threshold-field" }, el("label", { for: "threshold" }, `“${NONE}” below, in percent`), thresholdInput,
        el("p", { class: "help", id: "threshold-help" }, "0 always answers with a label. Probabilities compare the labels with each other only.")),
      legend),
    el("div", {}, summary, tools, imageList, table, dropButton, sampleList, fileInput)));

  // Requests

  async function classify() {
    abortController?.abort();
    const controller = (abortController = new AbortController());
    const isTemplateValid = template === OWN_TEMPLATES || template.includes(LABEL_ONLY);
    templateError.textContent = isTemplateValid ? "" : "The template has no {} for the label.";
    templateInput.setAttribute("aria-invalid", !isTemplateValid);
    legend.hidden = !images.length || isLabelOnly(template);
    if (!isTemplateValid || !images.length || !labels.length) return render();
    try {
      await Promise.all([template, LABEL_ONLY].map((text) => fetchScores(text, controller.signal)));
      render();
    } catch (error) {
      if (error.name === "AbortError") return;
      if (!(error instanceof ApiError)) throw error;
      templateError.textContent = error.message;
    }
  }

  // Request the scores of images that are not cached for this template and these labels.
  async function fetchScores(template, signal) {
    const key = JSON.stringify([template, labels]);
    const pending = images.filter((image) => !image.error && !image.scoresByKey.has(key));
    for (const batch of splitIntoBatches(pending, serverInfo.limits)) {
      try {
        const body = { images: batch.map((image) => image.input), labels, templates: template === OWN_TEMPLATES ? undefined : [template] };
        const response = await fetchJson("v1/classify", { body, signal });
        response.results.forEach((result, index) => batch[index].scoresByKey.set(key, result.scores));
      } catch (error) {
        if (error.status !== 400 || batch.length === 1) {
          if (error.status === 400 && labels.length) batch[0].error = error.message;
          else throw error;
        } else {
          for (const image of batch) image.sendAlone = true; // one image is invalid: find out which
          await fetchScores(template, signal);
        }
      }
    }
  }

  // Results

  function render() {
    const scoresFor = (image, template) => image.scoresByKey.get(JSON.stringify([template, labels]));
    const scored = images.filter((image) => scoresFor(image, template) && scoresFor(image, LABEL_ONLY));
    const changed = scored.filter((image) => scoresFor(image, template)[0].label !== scoresFor(image, LABEL_ONLY)[0].label);
    const note = labels.length === 1 && images.length ? "One label always gets 100%: add others to compare it with." : "";
    summary.replaceChildren(...(!labels.length ? [images.length ? "Add labels for the images." : ""] : [
      scored.length === 1 && el("strong", {}, headline(scoresFor(scored[0], template)[0])),
      scored.length > 1 && el("strong", {}, countAnswers(scored.map((image) => answer(scoresFor(image, template)[0])))),
      note && el("span", { class: "template-effect" }, note),
      changed.length > 0 && el("span", { class: "template-effect" }, `The template changes the top label of ${changed.length} of ${pluralize(scored.length, "image")}.`),
    ].filter(Boolean)));
    for (const image of scored) image.lastScores = [scoresFor(image, template), isLabelOnly(template) ? null : scoresFor(image, LABEL_ONLY)]; // shown until new scores arrive
    imageList.replaceChildren(...images.map(renderImage));
    const canBeTable = images.length > 1;
    imageList.hidden = !images.length || (isTable && canBeTable);
    table.hidden = !(isTable && canBeTable);
    if (!table.hidden) table.replaceChildren(renderTable(scored));
    tools.hidden = !scored.length;
    tools.replaceChildren(...[
      canBeTable && el("button", { type: "button", "aria-pressed": String(isTable), onclick: toggleTable }, "As a table"),
      el("button", { type: "button", onclick: () => saveCsv(answerRows(scored), "labels.csv") }, "CSV"),
      el("button", { type: "button", onclick: showCode }, "As code"),
    ].filter(Boolean));
    dropButton.hidden = images.length > 0;
    addButton.hidden = !images.length;
    labelList.replaceChildren(...labels.map((label) => createChip(label, label, () => setLabels(labels.filter((item) => item !== label)))));
  }

  // The answer of an image: its best label, unless that is below the threshold.
  const answer = ({ label, score }) => (100 * score < threshold ? NONE : label);
  const headline = (best) => (answer(best) === NONE ? `None of these; nearest is ${best.label}, ${formatPercent(best.score)}` : `${best.label}, ${formatPercent(best.score)}`);

  // "3 × pig, 1 × none of these"
  function countAnswers(answers) {
    const counts = new Map();
    for (const text of answers) counts.set(text, (counts.get(text) ?? 0) + 1);
    const sorted = [...counts].sort((a, b) => b[1] - a[1]);
    const rest = sorted.length - MAX_BARS;
    return sorted.slice(0, MAX_BARS).map(([text, count]) => `${count} × ${text}`).join(", ") + (rest > 0 ? ` and ${pluralize(rest, "other label")}` : "");
  }

  const answerRows = (scored) => [["image", "answer", "probability", ...labels], ...scored.map((image) => {
    const [scores] = image.lastScores;
    const byLabel = new Map(scores.map(({ label, score }) => [label, score]));
    return [image.name, answer(scores[0]), scores[0].score, ...labels.map((label) => byLabel.get(label))];
  })];

  function renderTable(scored) {
    const cells = scored.map((image) => {
      const element = el("img", { alt: "" });
      image.render(element);
      const [[best, second]] = image.lastScores;
      return el("tr", {}, el("td", {}, element), el("th", { scope: "row" }, image.name), el("td", {}, answer(best)), el("td", {}, formatPercent(best.score)),
        el("td", {}, second ? `${second.label}, ${formatPercent(second.score)}` : ""));
    });
    return el("table", {}, el("thead", {}, el("tr", {}, el("td", {}), ...["image", "answer", "probability", "second"].map((name) => el("th", { scope: "col" }, name)))), el("tbody", {}, ...cells));
  }

  function toggleTable() {
    isTable = !isTable;
    saveSetting("classify-table", isTable);
    render();
    tools.querySelector("button").focus();
  }

  const showCode = () => openCodeDialog("v1/classify", {
    images: images.slice(0, 1).map((image) => image.input), labels, ...(template !== OWN_TEMPLATES && { templates: [template] }),
  });

  function renderImage(image) {
    const element = el("img", { class: "image", alt: image.name });
    image.render(element);
    const remove = () => {
      images.splice(images.indexOf(image), 1);
      render();
    };
    return el("li", {}, element,
      el("button", { type: "button", class: "remove", "aria-label": `remove ${image.name}`, onclick: remove }, "×"),
      image.error ? el("p", { class: "error" }, image.error) : renderBars(...(image.lastScores ?? [[], null])));
  }

  // Draw scores, each with a tick at its score in `baseline`, which may be null.
  function renderBars(scores, baseline) {
    const baselineByLabel = baseline && new Map(baseline.map(({ label, score }) => [label, score]));
    const numHidden = scores.length - MAX_BARS;
    const isNone = scores.length > 0 && answer(scores[0]) === NONE;
    return el("ol", { class: `bars${isNone ? " is-none" : ""}` }, isNone && el("li", { class: "none" }, NONE), ...scores.slice(0, MAX_BARS).map(({ label, score }) => {
      return el("li", { title: label },
        el("span", { class: "label" }, label), el("span", {}, formatPercent(score)),
        el("span", { class: "track", style: { "--score": score, "--baseline": baselineByLabel ? baselineByLabel.get(label) : 0 } },
          el("span", { class: "fill" }), baselineByLabel && el("span", { class: "baseline" }),
          baselineByLabel && el("span", { class: "visually-hidden" }, `label only ${formatPercent(baselineByLabel.get(label))}`)));
    }), numHidden > 0 && el("li", { class: "more-labels" }, `and ${pluralize(numHidden, "label")} below ${formatPercent(scores[MAX_BARS - 1].score)}`));
  }

  // Changes

  const scheduleClassify = debounce(250, classify);

  function setLabels(names) {
    labels = names.slice(0, serverInfo.limits.labels);
    saveSetting("labels", labels);
    render();
    scheduleClassify();
  }

  function addLabels(names, replace = false) {
    setLabels([...new Set([...(replace ? [] : labels), ...names])]);
  }

  function setTemplate(text) {
    template = templateInput.value = text;
    saveSetting("template", template);
    scheduleClassify();
  }

  function addImage(image) {
    images.push({ scoresByKey: new Map(), ...image });
    render();
    scheduleClassify();
  }

  async function addFiles(files) {
    for (const file of files) {
      try {
        const image = await readImage(file, serverInfo.limits.body_bytes / 8);
        addImage({ name: image.name, input: image.input, render: (element) => (element.src = image.preview) });
      } catch (error) {
        summary.textContent = error.message;
      }
    }
    announce(pluralize(files.length, "image added", "images added"));
  }

  addChipInput(labelInput, (names) => addLabels(names));
  templateInput.addEventListener("input", () => setTemplate(templateInput.value));
  thresholdInput.addEventListener("input", () => {
    threshold = Math.min(100, Math.max(0, Number(thresholdInput.value) || 0));
    saveSetting("threshold", threshold);
    render();
  });
  fileInput.addEventListener("change", () => {
    addFiles([...fileInput.files]);
    fileInput.value = "";
  });
  addImageDropTarget($("classify"), addFiles);
  const addButton = el("button", { type: "button", class: "more-button", hidden: true, onclick: () => fileInput.click() }, "Add images");
  table.after(addButton);
  if (serverInfo.store?.rows) renderSamples(sampleList, addImage);
  render();
  legend.hidden = true;
  return {};
}

async function renderSamples(container, addImage) {
  const { rows } = await fetchJson("v1/rows", { body: { k: NUM_SAMPLES } }).catch(() => ({ rows: [] }));
  if (!rows.length) return;
  container.replaceChildren(el("h2", { class: "minor" }, "From the store"), el("ul", { class: "preview-strip" }, ...rows.map((row) => {
    const thumbnail = el("img", { alt: "" });
    loadImage(thumbnail, thumbnailUrl(row.id, 192));
    const name = row.caption ?? row.name;
    return el("li", { style: { "--aspect-ratio": 1 } }, el("button", {
      type: "button", class: "open", "aria-label": `classify ${name}`, title: name,
      onclick: () => addImage({ name, input: { id: row.id }, render: (element) => loadImage(element, thumbnailUrl(row.id, 192)) }),
    }, thumbnail));
  })));
}

// Buttons that set the labels to all classes of a quiz dataset.
function renderDatasetButtons(serverInfo, setLabels) {
  if (!serverInfo.quiz.length) return null;
  return el("p", { class: "suggestions" }, "All classes of", ...serverInfo.quiz.map((name) => el("button", {
    type: "button", class: "link-button",
    onclick: async () => setLabels((await fetchJson(`v1/quiz/${encodeURIComponent(name)}`)).classes),
  }, name)));
}
