// The page frame: server information, tabs and their URLs, global keys.

import { fetchJson, sleep } from "./api.js";
import { $, el, pluralize } from "./dom.js";

const TABS = ["search", "classify", "quiz", "map"];
const mounted = new Map(); // tab → promise of what its mount() returned
let serverInfo = null;

// Each tab's module exports mount(serverInfo), called when the tab is first shown. The object that it returns may have
// onShow(params), called every time the tab is shown, with the parameters behind ? in the URL fragment.
async function showTab(tab, params, { focus = false } = {}) {
  for (const name of TABS) {
    const isSelected = name === tab;
    $(name).hidden = !isSelected;
    $(`tab-${name}`).setAttribute("aria-selected", isSelected);
    $(`tab-${name}`).tabIndex = isSelected ? 0 : -1;
  }
  document.title = `${$(`tab-${tab}`).textContent} – zebra`;
  if (focus) $(`tab-${tab}`).focus();
  if (!serverInfo) return;
  if (!mounted.has(tab)) mounted.set(tab, import(`./${tab}.js`).then((module) => module.mount(serverInfo)));
  const tabModule = await mounted.get(tab);
  tabModule?.onShow?.(params);
}

function currentRoute() {
  const [tab, params = ""] = location.hash.slice(1).split("?");
  return [TABS.includes(tab) ? tab : "search", new URLSearchParams(params)];
}

for (const name of TABS) $(`tab-${name}`).addEventListener("click", () => navigateTo(name));

function navigateTo(name) {
  if (currentRoute()[0] === name && location.hash) return;
  location.hash = name;
}

document.querySelector(".tabs").addEventListener("keydown", (event) => {
  const index = TABS.indexOf(currentRoute()[0]);
  const next = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: TABS.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const name = TABS[(next + TABS.length) % TABS.length];
  navigateTo(name);
  $(`tab-${name}`).focus();
});

document.addEventListener("keydown", (event) => {
  const isTyping = event.target.closest?.("input, textarea, select, dialog");
  if (event.key !== "/" || isTyping || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (currentRoute()[0] !== "search") location.hash = "search";
  $("query").focus();
  $("query").select();
});

window.addEventListener("hashchange", () => showTab(...currentRoute()));

async function fetchServerInfo() {
  for (;;) {
    try {
      return await fetchJson("v1/about");
    } catch (error) {
      $("notice").hidden = false;
      $("notice").textContent = error.status === 503 ? "Loading the model …" : error.message;
      await sleep(error.retryAfterSeconds || 2);
    }
  }
}

showTab(...currentRoute());
serverInfo = await fetchServerInfo();
$("notice").hidden = true;
const { model, store } = serverInfo;
$("server-info").replaceChildren([model.name, store && pluralize(store.rows, "image")].filter(Boolean).join(" · "),
  el("a", { href: "docs" }, "API"));
await showTab(...currentRoute());
