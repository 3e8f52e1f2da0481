// The page's frame: what the server is, the tabs and their addresses, and the keys that work everywhere.

import { ask, wait } from "/page/api.js";
import { $, el, plural } from "/page/dom.js";

const TABS = ["search", "classify", "quiz", "map"];
const opened = new Map(); // tab → what its module gave
let about = null;

// Each tab's module exports open(about), called when the tab is first shown; what that returns may have
// shown(words), called each time with the words behind ? in the address.
async function show(tab, words, { focus = false } = {}) {
  for (const name of TABS) {
    const chosen = name === tab;
    $(name).hidden = !chosen;
    $(`tab-${name}`).setAttribute("aria-selected", chosen);
    $(`tab-${name}`).tabIndex = chosen ? 0 : -1;
  }
  document.title = `${$(`tab-${tab}`).textContent} – zebra`;
  if (focus) $(`tab-${tab}`).focus();
  if (!about) return;
  if (!opened.has(tab)) opened.set(tab, import(`/page/${tab}.js`).then((module) => module.open(about)));
  const one = await opened.get(tab);
  one?.shown?.(words);
}

function route() {
  const [tab, words = ""] = location.hash.slice(1).split("?");
  return [TABS.includes(tab) ? tab : "search", new URLSearchParams(words)];
}

for (const name of TABS) $(`tab-${name}`).addEventListener("click", () => go(name));

function go(name) {
  if (route()[0] === name && location.hash) return;
  location.hash = name;
}

document.querySelector(".tabs").addEventListener("keydown", (event) => {
  const at = TABS.indexOf(route()[0]);
  const next = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: TABS.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const name = TABS[(next + TABS.length) % TABS.length];
  go(name);
  $(`tab-${name}`).focus();
});

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, dialog");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (route()[0] !== "search") location.hash = "search";
  $("query").focus();
  $("query").select();
});

window.addEventListener("hashchange", () => show(...route()));

async function learn() {
  for (;;) {
    try {
      return await ask("/v1/about");
    } catch (problem) {
      $("notice").hidden = false;
      $("notice").textContent = problem.status === 503 ? "The model is being loaded …" : problem.message;
      await wait(problem.seconds || 2);
    }
  }
}

show(...route());
about = await learn();
$("notice").hidden = true;
$("about").replaceChildren([about.model.name, about.store && plural(about.store.rows, "picture")].filter(Boolean).join(" · "),
  el("a", { href: "/docs" }, "API"));
await show(...route());
