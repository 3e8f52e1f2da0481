// The Classify tab: pictures, labels and a template in; bars out, beside what the bare labels would give.

import { ask, Problem, show } from "/page/api.js";
import { $, chip, chipField, el, later, percent, plural, recall, remember, speak, subject } from "/page/dom.js";
import { readPicture, takePictures } from "/page/pictures.js";

const BARE = "{}";
const SUGGESTED = ["a photo of a {}.", "a drawing of a {}.", BARE];
const BARS = 5;
const SAMPLES = 8;

export function open(about) {
  const pictures = []; // {name, image, show(img), at: template and labels → scores, bars: what is shown, refused: why not}
  let labels = recall("labels", null) ?? [...new Set(about.examples.slice(0, 4).map(subject))];
  let template = recall("template", SUGGESTED[0]);
  let asking = null;

  const file = el("input", { type: "file", accept: "image/*", multiple: true, hidden: true, tabindex: -1 });
  const list = el("ul", { class: "chips", "aria-label": "Labels" });
  const labelField = el("input", { id: "labels", type: "text", autocomplete: "off", placeholder: "horse, zebra, …", maxlength: about.limits.text_length });
  const templateField = el("input", {
    id: "template", type: "text", autocomplete: "off", spellcheck: "false", maxlength: about.limits.text_length,
    value: template, "aria-describedby": "template-error",
  });
  const wrong = el("p", { class: "error", id: "template-error", role: "alert" });
  const verdict = el("p", { class: "verdict", role: "status" });
  const sheet = el("ul", { class: "sheet", "aria-label": "Pictures with their labels" });
  const legend = el("p", { class: "legend" },
    el("span", {}, el("span", { class: "bar" }), "in the template"),
    el("span", {}, el("span", { class: "tick" }), "the label alone"));
  const drop = el("button", { type: "button", class: "drop", onclick: () => file.click() },
    el("strong", {}, "Drop pictures here"), el("span", {}, "or choose or paste some"));
  const samples = el("div", { class: "samples" });

  $("classify").replaceChildren(el("div", { class: "desk" },
    el("div", { class: "brief" },
      el("div", {}, el("label", { for: "labels" }, "Labels"), labelField, list, suggestSets(about, (names) => put(names, true))),
      el("div", {}, el("label", { for: "template" }, "Template, with {} for the label"), templateField, wrong,
        el("p", { class: "suggestions" }, ...SUGGESTED.map((text) =>
          el("button", { type: "button", class: "word", onclick: () => use(text) }, text === BARE ? "the label alone" : text)))),
      legend),
    el("div", {}, verdict, sheet, drop, samples, file)));

  // What is asked

  async function classify() {
    asking?.abort();
    const mine = (asking = new AbortController());
    const ready = template.includes(BARE);
    wrong.textContent = ready ? "" : "The template has no {} for the label.";
    templateField.setAttribute("aria-invalid", !ready);
    legend.hidden = !pictures.length || template === BARE;
    if (!ready || !pictures.length || !labels.length) return draw();
    try {
      await Promise.all([template, BARE].map((text) => scores(text, mine.signal)));
      draw();
    } catch (problem) {
      if (problem.name === "AbortError") return;
      if (!(problem instanceof Problem)) throw problem;
      wrong.textContent = problem.message;
    }
  }

  // Ask for the pictures whose scores under a template are not known yet.
  async function scores(text, signal) {
    const key = JSON.stringify([text, labels]);
    const unknown = pictures.filter((picture) => !picture.refused && !picture.at.has(key));
    for (const some of batches(unknown, about.limits)) {
      try {
        const body = { images: some.map((picture) => picture.image), labels, templates: [text] };
        const answer = await ask("/v1/classify", { body, signal });
        answer.results.forEach((result, index) => some[index].at.set(key, result.scores));
      } catch (problem) {
        if (problem.status !== 400 || some.length === 1) {
          if (problem.status === 400 && labels.length) some[0].refused = problem.message;
          else throw problem;
        } else {
          for (const one of some) one.alone = true; // one of them is no picture; find out which
          await scores(text, signal);
        }
      }
    }
  }

  // What is shown

  function draw() {
    const under = (picture, text) => picture.at.get(JSON.stringify([text, labels]));
    const known = pictures.filter((picture) => under(picture, template) && under(picture, BARE));
    const turned = known.filter((picture) => under(picture, template)[0].label !== under(picture, BARE)[0].label);
    verdict.textContent = !labels.length ? (pictures.length ? "Type what the pictures might show." : "")
      : template === BARE || !known.length ? ""
      : turned.length ? `The template changes the best label of ${turned.length} of ${plural(known.length, "picture")}.`
      : `The best label stays the same with and without the template.`;
    for (const picture of known) picture.bars = [under(picture, template), under(picture, BARE), template]; // and until there are newer ones
    sheet.replaceChildren(...pictures.map(card));
    sheet.hidden = !pictures.length;
    drop.hidden = pictures.length > 0;
    more.hidden = !pictures.length;
    list.replaceChildren(...labels.map((label) => chip(label, label, () => set(labels.filter((one) => one !== label)))));
  }

  function card(picture) {
    const image = el("img", { class: "shown", alt: picture.name });
    picture.show(image);
    const remove = () => {
      pictures.splice(pictures.indexOf(picture), 1);
      draw();
    };
    return el("li", {}, image,
      el("button", { type: "button", class: "gone-one", "aria-label": `remove ${picture.name}`, onclick: remove }, "×"),
      picture.refused ? el("p", { class: "error" }, picture.refused) : bars(...(picture.bars ?? [[], [], BARE])));
  }

  function bars(scores, bare, said) {
    const alone = said !== BARE && new Map(bare.map(({ label, score }) => [label, score]));
    const rest = scores.length - BARS;
    return el("ol", { class: "bars" }, ...scores.slice(0, BARS).map(({ label, score }) => {
      return el("li", { title: label },
        el("span", { class: "label" }, label), el("span", {}, percent(score)),
        el("span", { class: "track", style: { "--share": score, "--bare": alone ? alone.get(label) : 0 } },
          el("span", { class: "fill" }), alone && el("span", { class: "bare" }),
          alone && el("span", { class: "unseen" }, `the label alone ${percent(alone.get(label))}`)));
    }), rest > 0 && el("li", { class: "rest" }, `and ${plural(rest, "label")} below ${percent(scores[BARS - 1].score)}`));
  }

  // What changes it

  const soon = later(250, classify);

  function set(names) {
    labels = names.slice(0, about.limits.labels);
    remember("labels", labels);
    draw();
    soon();
  }

  function put(names, instead = false) {
    set([...new Set([...(instead ? [] : labels), ...names])]);
  }

  function use(text) {
    template = templateField.value = text;
    remember("template", template);
    soon();
  }

  function add(picture) {
    pictures.push({ at: new Map(), ...picture });
    draw();
    soon();
  }

  async function take(files) {
    for (const one of files) {
      try {
        const read = await readPicture(one, about.limits.body_bytes / 8);
        add({ name: read.name, image: read.image, show: (image) => (image.src = read.preview) });
      } catch (problem) {
        verdict.textContent = problem.message;
      }
    }
    speak(plural(files.length, "picture added", "pictures added"));
  }

  chipField(labelField, (names) => put(names));
  templateField.addEventListener("input", () => use(templateField.value));
  file.addEventListener("change", () => {
    take([...file.files]);
    file.value = "";
  });
  takePictures($("classify"), take);
  const more = el("button", { type: "button", class: "more", hidden: true, onclick: () => file.click() }, "Add pictures");
  sheet.after(more);
  if (about.store?.rows) offerSamples(about, samples, add);
  draw();
  legend.hidden = true;
  return {};
}

// Requests are bounded in pictures and in bytes.
function batches(pictures, limits) {
  const all = [];
  let some = [], bytes = 0;
  for (const picture of pictures) {
    const size = picture.image.data?.length ?? 100;
    if (some.length && (picture.alone || some.length === limits.batch || bytes + size > 0.9 * limits.body_bytes)) {
      all.push(some);
      [some, bytes] = [[], 0];
    }
    some.push(picture);
    bytes += size;
  }
  return some.length ? [...all, some] : all;
}

async function offerSamples(about, place, add) {
  const several = about.examples.slice(0, 4).map((text) => ask("/v1/search", { body: { text, k: SAMPLES / 4 } }));
  const hits = (await Promise.all(several).catch(() => [])).flatMap((found) => found.hits);
  if (!hits.length) return;
  place.replaceChildren(el("h3", {}, "From the store"), el("ul", { class: "strip" }, ...hits.map((hit) => {
    const small = el("img", { alt: "" });
    show(small, `${hit.thumbnail}?side=192`);
    const name = hit.caption ?? hit.name;
    return el("li", { style: { "--ratio": 1 } }, el("button", {
      type: "button", class: "open", "aria-label": `classify ${name}`, title: name,
      onclick: () => add({ name, image: { id: hit.id }, show: (image) => show(image, `${hit.thumbnail}?side=192`) }),
    }, small));
  })));
}

// The classes of the quiz sets are labels that belong together.
function suggestSets(about, use) {
  if (!about.quiz.length) return null;
  return el("p", { class: "suggestions" }, "All classes of", ...about.quiz.map((name) => el("button", {
    type: "button", class: "word",
    onclick: async () => use((await ask(`/v1/quiz/${encodeURIComponent(name)}`)).classes),
  }, name)));
}
