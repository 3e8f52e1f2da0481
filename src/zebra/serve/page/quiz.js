// The Quiz tab: people classify the images that the model classifies. Answers stay in this browser until they are
// exported or scored.

import { ApiError, fetchJson, loadImage } from "./api.js";
import { saveCsv } from "./export.js";
import { $, announce, el, formatCount, formatPercent, loadSetting, pluralize, saveSetting } from "./dom.js";

const UNKNOWN = "?";
const GUEST_PREFIX = "guest-"; // of people without a name
const CSV_COLUMNS = ["person", "image", "answer", "shots"];

export function mount(serverInfo) {
  const panel = $("quiz");
  const quizUrl = (path) => `v1/quiz/${encodeURIComponent(session.dataset)}${path}`;
  const session = { dataset: serverInfo.quiz[0], person: "", shots: 0, isRunning: false, answers: {}, ...loadSetting("quiz", {}) };
  if (!serverInfo.quiz.includes(session.dataset)) Object.assign(session, { dataset: serverInfo.quiz[0], isRunning: false });
  const answers = () => (session.answers[session.dataset] ??= []); // {person, image, answer, shots}
  const currentAnswers = () => answers().filter((item) => item.person === session.person && item.shots === session.shots);
  const saveSession = () => saveSetting("quiz", session)
    || (storageError = "This browser does not store data: export the answers before you close the page.");
  let storageError = "";

  // Start

  async function renderStart(errorMessage = "") {
    session.isRunning = false;
    const quizInfo = await fetchJson(quizUrl(""));
    const personInput = el("input", { id: "person", type: "text", value: isGuest(session.person) ? "" : session.person, maxlength: 200, autocomplete: "off", "aria-describedby": "person-help" });
    const errorText = el("p", { class: "error", role: "alert" }, errorMessage);
    const radioGroup = (label, key, options, shouldRender, help) => el("fieldset", {}, el("legend", {}, label), el("div", { class: "choices" },
      ...options.map(([value, text, disabled]) => el("label", {},
        el("input", { type: "radio", name: key, checked: session[key] === value, disabled, onchange: () => {
          session[key] = value;
          if (shouldRender) renderStart();
        } }), el("span", {}, text)))), help && el("p", { class: "help" }, help));
    session.shots = Math.min(session.shots, quizInfo.max_shots);
    const shotsHelp = quizInfo.max_shots < 2 && "Some classes have too few images for more examples.";
    panel.replaceChildren(el("form", { class: "quiz-start", onsubmit: (event) => {
      event.preventDefault();
      session.person = personInput.value.trim() || newGuest();
      startQuestions();
    } },
      el("h2", {}, "Are you better than the model?"),
      el("p", {}, `You see ${pluralize(quizInfo.num_images, "image")} of ${pluralize(quizInfo.classes.length, "class", "classes")} in random order and name each one. You can stop at any time.`),
      serverInfo.quiz.length > 1 && radioGroup("Dataset", "dataset", serverInfo.quiz.map((name) => [name, name]), true),
      radioGroup("Examples per class", "shots", [0, 1, 2].map((shots) => [shots, ["none", "one", "two"][shots], shots > quizInfo.max_shots]), false, shotsHelp),
      el("div", {}, el("label", { for: "person" }, "Your name, if you like"), personInput,
        el("p", { class: "help", id: "person-help" }, "Identifies you in the exported answers, where it can also be given. The server stores nothing.")),
      errorText,
      el("p", { class: "button-row" }, el("button", { class: "primary" }, "Start"), ...answerButtons())));
    saveSession();
  }

  const answerButtons = () => (answers().length ? [
    el("button", { type: "button", onclick: renderScores }, "Scores so far"),
    el("button", { type: "button", onclick: exportAnswers }, `Export ${pluralize(answers().length, "answer")}`),
  ] : []);

  // Questions

  async function startQuestions(showExamples = true) {
    try {
      const quizInfo = await fetchJson(quizUrl(""));
      const quiz = await fetchJson(quizUrl("/start"), { body: { person: session.person, shots: session.shots } });
      session.isRunning = true;
      saveSession();
      if (showExamples && quiz.examples.length && !currentAnswers().length) renderExamples(quiz, quizInfo);
      else renderQuestion(quiz, quizInfo);
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      await renderStart(error.message);
    }
  }

  function renderExamples(quiz, quizInfo) {
    const items = quiz.examples.map(({ label, images }) => el("li", {},
      el("div", {}, ...images.map((url) => {
        const image = el("img", { alt: `example of ${label}`, loading: "lazy" });
        loadImage(image, url);
        return image;
      })), label));
    panel.replaceChildren(el("h2", {}, "Examples"), el("ul", { class: "class-examples" }, ...items),
      el("p", { class: "sticky-footer" }, el("button", { type: "button", class: "primary", onclick: () => renderQuestion(quiz, quizInfo) }, "Continue")));
    window.scrollTo({ top: 0 });
  }

  function renderQuestion(quiz, quizInfo) {
    const answeredIds = new Set(currentAnswers().map((item) => item.image));
    const remaining = quiz.questions.filter((id) => !answeredIds.has(id));
    const total = quiz.questions.length;
    if (!remaining.length) return renderScores();
    const [imageId, nextId] = remaining;
    const image = el("img", { alt: "image to classify" });
    loadImage(image, quizUrl(`/images/${encodeURIComponent(imageId)}`));
    if (nextId) loadImage(new Image(), quizUrl(`/images/${encodeURIComponent(nextId)}`)); // preload
    const submitAnswer = (answer) => {
      answers().push({ person: session.person, image: imageId, answer, shots: session.shots });
      saveSession();
      announce(answer === UNKNOWN ? "you don't know" : answer);
      renderQuestion(quiz, quizInfo);
    };
    const undoAnswer = () => {
      const last = currentAnswers().at(-1);
      session.answers[session.dataset] = answers().filter((item) => item !== last);
      saveSession();
      renderQuestion(quiz, quizInfo);
    };
    const { field, list } = classCombobox(quizInfo.classes, submitAnswer);
    panel.replaceChildren(
      el("div", { class: "progress" },
        el("span", {}, `${formatCount(answeredIds.size + 1)} of ${formatCount(total)}`),
        el("progress", { value: answeredIds.size, max: total, "aria-label": "answered" })),
      el("div", { class: "question" },
        el("div", { class: "question-image" }, image),
        el("div", { class: "answer-form" },
          el("label", { for: "answer" }, "What is it?"), field, list,
          el("p", { class: "button-row" },
            el("button", { type: "button", onclick: () => submitAnswer(UNKNOWN) }, "I don’t know"),
            el("button", { type: "button", class: "text-button", disabled: !answeredIds.size, onclick: undoAnswer }, "Undo the last answer")))),
      el("p", { class: "button-row footer" },
        el("button", { type: "button", disabled: !answeredIds.size, onclick: renderScores }, "See my score"),
        el("button", { type: "button", disabled: !answers().length, onclick: exportAnswers }, "Export answers"),
        el("button", { type: "button", class: "text-button", onclick: () => renderStart() }, "Another person or dataset"),
        el("span", { class: "error" }, storageError)));
    field.focus({ preventScroll: true });
  }

  // Scores

  async function renderScores() {
    const groups = [["You", answers().filter((item) => item.person === session.person)]];
    const people = new Set(answers().map((item) => item.person));
    if (people.size > 1 || !groups[0][1].length) groups.push([`All ${pluralize(people.size, "person", "people")}`, answers()]);
    try {
      const sections = [];
      for (const [title, groupAnswers] of groups) {
        if (!groupAnswers.length) continue;
        const response = await fetchJson(quizUrl("/score"), { body: { person: session.person || "someone", answers: groupAnswers } });
        for (const result of response.results) sections.push(renderResult(title, result));
      }
      panel.replaceChildren(
        el("p", { class: "button-row" },
          session.isRunning && el("button", { type: "button", class: "primary", onclick: () => startQuestions(false) }, "Continue"),
          el("button", { type: "button", onclick: exportAnswers }, "Export answers"),
          el("button", { type: "button", class: "text-button", onclick: () => renderStart() }, "Another person or dataset")),
        el("h2", { class: "footer" }, `People and the model on ${session.dataset}`),
        ...sections);
      window.scrollTo({ top: 0 });
      announce("your score");
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      await renderStart(error.message);
    }
  }

  function renderResult(title, result) {
    const isGroup = result.num_people > 1;
    const rows = [
      [isGroup ? "people, all answers" : "you, all answers", result.accuracy, "“I don’t know” counts as wrong"],
      [isGroup ? "people, guesses only" : "you, guesses only", result.on_guesses, "without “I don’t know”"],
      ["majority vote", result.majority, isGroup ? "ties excluded" : "same for one person"],
      ["majority, on guesses", result.majority_on_guesses, isGroup ? "ties excluded" : "same for one person"],
      ["the model", result.model, "on the same images"],
    ];
    const examples = ["without examples", "after one example of each class", "after two examples of each class"][result.shots];
    return el("section", { class: "result" },
      el("p", { class: "help" }, `${title}, ${examples}: ${pluralize(result.num_answers, "answer")}. Mean accuracy per class, with its 95 % interval.`),
      el("dl", { class: "score-table" }, ...rows.map(([name, value, note]) => el("div", {},
        el("dt", {}, name, el("small", {}, value ? `${formatPercent(value.low)} to ${formatPercent(value.high)}` : "no data"), el("small", {}, note)),
        el("dd", {}, value ? formatPercent(value.value) : "–")))),
      el("h3", {}, "Accuracy by class, hardest for people first"),
      el("p", { class: "legend" }, el("span", {}, el("i", {}), isGroup ? "people" : "you"), el("span", {}, el("i", { class: "model" }), "the model"), el("span", {}, "from 0 to 100%, with 95 % intervals"),
        result.correlation && el("span", {}, `r = ${result.correlation.value.toFixed(2)} [${result.correlation.low.toFixed(2)}, ${result.correlation.high.toFixed(2)}]`)),
      el("ul", { class: "dot-plot" }, ...result.classes.map(({ label, people, model }) => el("li", {},
        el("span", {}, label),
        el("span", { class: "axis", role: "img", "aria-label": `${isGroup ? "people" : "you"} ${formatPercent(people.value)}, the model ${formatPercent(model.value)}` },
          intervalBar(people, ""), intervalBar(model, "model"), scoreDot(model, "model"), scoreDot(people, "")),
        el("span", { class: "count" }, `n = ${people.n}`)))));
  }

  const scoreDot = (score, className) => el("i", { class: className, style: { "--value": score.value } });
  const intervalBar = (score, className) => el("b", { class: className, style: { "--low": score.low, "--high": score.high } });

  // A person without a name can give one now; the answers here keep theirs, which decides the order of the questions.
  function exportAnswers() {
    session.names ??= {};
    if (isGuest(session.person)) {
      session.names[session.person] ??= prompt("Your name, for the exported answers:")?.trim() || undefined;
      saveSession();
    }
    const cell = (item, column) => (column === "person" ? session.names[item.person] ?? item.person : item[column]);
    saveCsv([CSV_COLUMNS, ...answers().map((item) => CSV_COLUMNS.map((column) => cell(item, column)))], `${session.dataset}-answers.csv`);
  }

  if (session.isRunning && session.person) startQuestions();
  else renderStart();
  return {};
}

const isGuest = (person) => person.startsWith(GUEST_PREFIX);
const newGuest = () => `${GUEST_PREFIX}${Math.random().toString(36).slice(2, 8)}`;

// A combobox that filters the classes while the user types; arrow keys and Enter, or a click, answer.
function classCombobox(classes, onAnswer) {
  const list = el("ul", { role: "listbox", id: "classes", "aria-label": "classes" });
  const field = el("input", {
    id: "answer", type: "text", role: "combobox", autocomplete: "off", spellcheck: "false", autocapitalize: "off",
    placeholder: "type to filter", "aria-controls": "classes", "aria-expanded": "true", "aria-autocomplete": "list",
  });
  let options = [];
  let activeIndex = -1;
  const setActive = (index) => {
    activeIndex = index;
    for (const [position, item] of [...list.children].entries()) item.setAttribute("aria-selected", position === activeIndex);
    if (activeIndex >= 0) {
      field.setAttribute("aria-activedescendant", list.children[activeIndex].id);
      list.children[activeIndex].scrollIntoView({ block: "nearest" });
    } else field.removeAttribute("aria-activedescendant");
  };
  const updateOptions = () => {
    const prefixes = field.value.toLowerCase().split(/\s+/).filter(Boolean);
    const matches = (name) => prefixes.every((prefix) => name.toLowerCase().split(/\s+/).some((word) => word.startsWith(prefix)));
    options = classes.filter(matches);
    if (options.length && prefixes.length) { // an exact match comes first
      const exact = options.findIndex((name) => name.toLowerCase() === field.value.trim().toLowerCase());
      if (exact > 0) options.unshift(...options.splice(exact, 1));
    }
    list.replaceChildren(...options.map((name, index) => el("li", { role: "option", id: `class-${index}`, onclick: () => onAnswer(name) }, name)));
    setActive(prefixes.length && options.length ? 0 : -1);
  };
  field.addEventListener("input", updateOptions);
  field.addEventListener("keydown", (event) => {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) {
      event.preventDefault();
      if (options.length) setActive(activeIndex < 0 && step < 0 ? options.length - 1 : (activeIndex + step + options.length) % options.length);
    } else if (event.key === "Enter" && !event.isComposing) {
      event.preventDefault();
      if (field.value.trim() === UNKNOWN) onAnswer(UNKNOWN);
      else if (options[activeIndex] !== undefined) onAnswer(options[activeIndex]);
    }
  });
  updateOptions();
  return { field, list };
}
