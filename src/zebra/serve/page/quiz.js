// The Quiz tab: the people-against-the-model test. Answers stay in this browser until they are exported or scored.

import { ask, Problem, show } from "/page/api.js";
import { $, count, el, percent, plural, recall, remember, speak } from "/page/dom.js";

const UNKNOWN = "?";
const HEADER = ["person", "image", "answer", "shots"];

export function open(about) {
  const panel = $("quiz");
  if (!about.quiz.length) {
    panel.replaceChildren(el("div", { class: "empty" }, el("h2", {}, "There is no quiz."),
      el("p", {}, "Name a labelled set, and people can be asked what the model is asked:"),
      el("pre", {}, "zebra serve --quiz DATASET"),
      el("p", {}, "DATASET is a CLIP_benchmark folder, such as runs/demo/menagerie/evaluation/unseen-kinds.")));
    return {};
  }
  const at = (path) => `/v1/quiz/${encodeURIComponent(kept.set)}${path}`;
  const kept = recall("quiz", { set: about.quiz[0], person: "", shots: 0, sitting: false, answers: {} });
  if (!about.quiz.includes(kept.set)) Object.assign(kept, { set: about.quiz[0], sitting: false });
  const answers = () => (kept.answers[kept.set] ??= []); // {person, image, answer, shots}
  const mine = () => answers().filter((one) => one.person === kept.person && one.shots === kept.shots);
  const save = () => remember("quiz", kept) || (trouble = "This browser keeps nothing: export the answers before you close the page.");
  let trouble = "";

  // Before it begins

  async function begin(problem = "") {
    kept.sitting = false;
    const set = await ask(at(""));
    const name = el("input", { id: "person", type: "text", value: kept.person, maxlength: 200, autocomplete: "off", required: true, "aria-describedby": "person-help" });
    const wrong = el("p", { class: "error", role: "alert" }, problem);
    const choose = (label, key, options, redraw, help) => el("fieldset", {}, el("legend", {}, label), el("div", { class: "choices" },
      ...options.map(([value, words, disabled]) => el("label", {},
        el("input", { type: "radio", name: key, checked: kept[key] === value, disabled, onchange: () => {
          kept[key] = value;
          if (redraw) begin();
        } }), el("span", {}, words)))), help && el("p", { class: "help" }, help));
    kept.shots = Math.min(kept.shots, set.examples_available);
    const few = set.examples_available < 2 && "Some classes of this set have too few pictures to spare more.";
    panel.replaceChildren(el("form", { class: "begin", onsubmit: (event) => {
      event.preventDefault();
      kept.person = name.value.trim();
      if (!kept.person) return (wrong.textContent = "Give a name, or a number.");
      sit();
    } },
      el("h2", {}, "Are you better than the model?"),
      el("p", {}, `You see ${plural(set.pictures, "picture")} of ${plural(set.classes.length, "class", "classes")}, in an order of your own, and say what each one is. Stop whenever you like.`),
      about.quiz.length > 1 && choose("Pictures", "set", about.quiz.map((one) => [one, one]), true),
      choose("Examples of each class to look at first", "shots", [0, 1, 2].map((shots) => [shots, ["none", "one", "two"][shots], shots > set.examples_available]), false, few),
      el("div", {}, el("label", { for: "person" }, "Your name, or a number"), name,
        el("p", { class: "help", id: "person-help" }, "It tells people apart in the exported answers. Nothing is kept on the server.")),
      wrong,
      el("p", { class: "row" }, el("button", { class: "main" }, "Begin"), ...records())));
    save();
  }

  const records = () => (answers().length ? [
    el("button", { type: "button", onclick: score }, "Scores so far"),
    el("button", { type: "button", onclick: exportAnswers }, `Export ${plural(answers().length, "answer")}`),
  ] : []);

  // The questions

  async function sit(lesson = true) {
    try {
      const set = await ask(at(""));
      const begun = await ask(at("/start"), { body: { person: kept.person, shots: kept.shots } });
      kept.sitting = true;
      save();
      if (lesson && begun.examples.length && !mine().length) teach(begun, set);
      else question(begun, set);
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      await begin(problem.message);
    }
  }

  function teach(begun, set) {
    const pictures = begun.examples.map(({ label, images }) => el("li", {},
      el("div", {}, ...images.map((address) => {
        const picture = el("img", { alt: `example of ${label}`, loading: "lazy" });
        show(picture, address);
        return picture;
      })), label));
    panel.replaceChildren(el("h2", {}, "Look at these first"), el("ul", { class: "lesson" }, ...pictures),
      el("p", { class: "stuck" }, el("button", { type: "button", class: "main", onclick: () => question(begun, set) }, "I have looked")));
    window.scrollTo({ top: 0 });
  }

  function question(begun, set) {
    const done = new Set(mine().map((one) => one.image));
    const left = begun.questions.filter((image) => !done.has(image));
    const total = begun.questions.length;
    if (!left.length) return score();
    const [image, next] = left;
    const picture = el("img", { alt: "the picture to be named" });
    show(picture, at(`/images/${encodeURIComponent(image)}`));
    if (next) show(new Image(), at(`/images/${encodeURIComponent(next)}`)); // so that it is there when it is asked
    const say = (answer) => {
      answers().push({ person: kept.person, image, answer, shots: kept.shots });
      save();
      speak(answer === UNKNOWN ? "you don't know" : answer);
      question(begun, set);
    };
    const back = () => {
      const last = mine().at(-1);
      kept.answers[kept.set] = answers().filter((one) => one !== last);
      save();
      question(begun, set);
    };
    const { field, list } = chooser(set.classes, say);
    panel.replaceChildren(
      el("div", { class: "progress" },
        el("span", {}, `${count(done.size + 1)} of ${count(total)}`),
        el("progress", { value: done.size, max: total, "aria-label": "answered" })),
      el("div", { class: "asked" },
        el("div", { class: "canvas" }, picture),
        el("div", { class: "answer" },
          el("label", { for: "answer" }, "What is it?"), field, list,
          el("p", { class: "row" },
            el("button", { type: "button", onclick: () => say(UNKNOWN) }, "I don’t know"),
            el("button", { type: "button", class: "quiet", disabled: !done.size, onclick: back }, "Undo the last answer")))),
      el("p", { class: "row foot" },
        el("button", { type: "button", disabled: !done.size, onclick: score }, "See my score"),
        el("button", { type: "button", disabled: !answers().length, onclick: exportAnswers }, "Export answers"),
        el("button", { type: "button", class: "quiet", onclick: () => begin() }, "Someone else, or another set"),
        el("span", { class: "error" }, trouble)));
    field.focus({ preventScroll: true });
  }

  // The scores

  async function score() {
    const groups = [["You", answers().filter((one) => one.person === kept.person)]];
    const people = new Set(answers().map((one) => one.person));
    if (people.size > 1 || !groups[0][1].length) groups.push([`All ${plural(people.size, "person", "people")} here`, answers()]);
    try {
      const blocks = [];
      for (const [who, given] of groups) {
        if (!given.length) continue;
        const found = await ask(at("/score"), { body: { person: kept.person || "someone", answers: given } });
        for (const standing of found.standings) blocks.push(block(who, standing));
      }
      panel.replaceChildren(
        el("p", { class: "row" },
          kept.sitting && el("button", { type: "button", class: "main", onclick: () => sit(false) }, "Go on"),
          el("button", { type: "button", onclick: exportAnswers }, "Export answers"),
          el("button", { type: "button", class: "quiet", onclick: () => begin() }, "Someone else, or another set")),
        el("h2", { class: "foot" }, `People and the model on ${kept.set}`),
        ...blocks);
      window.scrollTo({ top: 0 });
      speak("your score");
    } catch (problem) {
      if (!(problem instanceof Problem)) throw problem;
      await begin(problem.message);
    }
  }

  function block(who, standing) {
    const several = standing.people > 1;
    const columns = [
      [several ? "people, all answers" : "you, all answers", standing.accuracy, "not to know is a wrong answer"],
      [several ? "people, where they guessed" : "you, where you guessed", standing.on_guesses, "without “I don’t know”"],
      ["majority vote", standing.majority, several ? "ties left out" : "of one person: the same"],
      ["majority, on guesses", standing.majority_on_guesses, several ? "ties left out" : "of one person: the same"],
      ["the model", standing.model, "on the same pictures"],
    ];
    const examples = ["without examples", "after one example of each class", "after two examples of each class"][standing.shots];
    return el("section", { class: "standing" },
      el("p", { class: "help" }, `${who}, ${examples}: ${plural(standing.answers, "answer")}. Mean accuracy per class, with its 95 % interval.`),
      el("dl", { class: "versus" }, ...columns.map(([name, value, note]) => el("div", {},
        el("dt", {}, name, el("small", {}, value ? `${percent(value.low)} to ${percent(value.high)}` : "nothing to count"), el("small", {}, note)),
        el("dd", {}, value ? percent(value.value) : "–")))),
      el("h3", {}, "Class by class, the hardest for people first"),
      el("p", { class: "legend" }, el("span", {}, el("i", {}), several ? "people" : "you"), el("span", {}, el("i", { class: "model" }), "the model"), el("span", {}, "from 0 to 100%, with 95 % intervals"),
        standing.correlation && el("span", {}, `r = ${standing.correlation.value.toFixed(2)} [${standing.correlation.low.toFixed(2)}, ${standing.correlation.high.toFixed(2)}]`)),
      el("ul", { class: "dots" }, ...standing.classes.map(({ label, people, model }) => el("li", {},
        el("span", {}, label),
        el("span", { class: "axis", role: "img", "aria-label": `${several ? "people" : "you"} ${percent(people.value)}, the model ${percent(model.value)}` },
          span(people, ""), span(model, "model"), dot(model, "model"), dot(people, "")),
        el("span", { class: "n" }, `n = ${people.n}`)))));
  }

  const dot = (score, kind) => el("i", { class: kind, style: { "--at": score.value } });
  const span = (score, kind) => el("b", { class: kind, style: { "--low": score.low, "--high": score.high } });

  function exportAnswers() {
    const cell = (value) => (/[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value);
    const lines = [HEADER, ...answers().map((one) => HEADER.map((column) => String(one[column])))];
    const text = lines.map((cells) => cells.map(cell).join(",")).join("\n");
    const address = URL.createObjectURL(new Blob([`${text}\n`], { type: "text/csv" }));
    el("a", { href: address, download: `${kept.set}-answers.csv` }).click();
    setTimeout(() => URL.revokeObjectURL(address), 1000);
  }

  if (kept.sitting && kept.person) sit();
  else begin();
  return {};
}

// A field that narrows a list of classes while one types: arrows and Enter, or a click, answer.
function chooser(classes, say) {
  const list = el("ul", { role: "listbox", id: "classes", "aria-label": "classes" });
  const field = el("input", {
    id: "answer", type: "text", role: "combobox", autocomplete: "off", spellcheck: "false", autocapitalize: "off",
    placeholder: "type the beginning", "aria-controls": "classes", "aria-expanded": "true", "aria-autocomplete": "list",
  });
  let shown = [];
  let active = -1;
  const mark = (index) => {
    active = index;
    for (const [at, item] of [...list.children].entries()) item.setAttribute("aria-selected", at === active);
    if (active >= 0) {
      field.setAttribute("aria-activedescendant", list.children[active].id);
      list.children[active].scrollIntoView({ block: "nearest" });
    } else field.removeAttribute("aria-activedescendant");
  };
  const fill = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (name) => words.every((word) => name.toLowerCase().split(/\s+/).some((part) => part.startsWith(word)));
    shown = classes.filter(fits);
    if (shown.length && words.length) { // the exact name first
      const exact = shown.findIndex((name) => name.toLowerCase() === field.value.trim().toLowerCase());
      if (exact > 0) shown.unshift(...shown.splice(exact, 1));
    }
    list.replaceChildren(...shown.map((name, index) => el("li", { role: "option", id: `class-${index}`, onclick: () => say(name) }, name)));
    mark(words.length && shown.length ? 0 : -1);
  };
  field.addEventListener("input", fill);
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (shown.length) mark(active < 0 && step < 0 ? shown.length - 1 : (active + step + shown.length) % shown.length);
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      if (field.value.trim() === UNKNOWN) say(UNKNOWN);
      else if (shown[active] !== undefined) say(shown[active]);
    }
  });
  fill();
  return { field, list };
}
