// The page frame: server information, tabs and their URLs, the menu, global keys.

import { fetchJson, sleep } from "./api.js";
import { $, pluralize } from "./dom.js";
import { mountMenu } from "./menu.js";
import { mountSelectionBar } from "./selection.js";

const mounted = new Map(); // tab → promise of what its mount() returned
let tabs = ["search", "classify", "map"]; // those that are shown, in the order of the page
let serverInfo = null;

// Each tab has a module that exports mount(serverInfo), called when the tab is first shown, and a style sheet of its
// own. The object that mount() returns may have onShow(params), called every time the tab is shown, with the parameters
// behind ? in the URL fragment.
async function showTab(tab, params) {
  for (const element of document.querySelectorAll("[role=tab]")) {
    const isSelected = element.id === `tab-${tab}`;
    $(element.getAttribute("aria-controls")).hidden = !isSelected;
    element.setAttribute("aria-selected", isSelected);
    element.tabIndex = isSelected ? 0 : -1;
  }
  document.title = `${$(`tab-${tab}`).textContent} – zebra`;
  if (!serverInfo) return;
  if (!mounted.has(tab)) mounted.set(tab, mountTab(tab));
  const tabModule = await mounted.get(tab);
  tabModule?.onShow?.(params);
}

async function mountTab(tab) {
  const [module] = await Promise.all([import(`./${tab}.js`), tab === "search" || loadStyle(tab)]);
  return module.mount(serverInfo);
}

function loadStyle(name) {
  return new Promise((resolve) => {
    const link = document.createElement("link");
    Object.assign(link, { rel: "stylesheet", href: `page/${name}.css`, onload: resolve, onerror: resolve });
    document.head.append(link);
  });
}

function currentRoute() {
  const [tab, params = ""] = location.hash.slice(1).split("?");
  return [tabs.includes(tab) ? tab : "search", new URLSearchParams(params)];
}

function navigateTo(name) {
  if (currentRoute()[0] === name && location.hash) return;
  location.hash = name;
}

for (const tab of document.querySelectorAll("[role=tab]")) tab.addEventListener("click", () => navigateTo(tab.getAttribute("aria-controls")));

document.querySelector(".tabs").addEventListener("keydown", (event) => {
  const index = tabs.indexOf(currentRoute()[0]);
  const next = { ArrowRight: index + 1, ArrowLeft: index - 1, Home: 0, End: tabs.length - 1 }[event.key];
  if (next === undefined) return;
  event.preventDefault();
  const name = tabs[(next + tabs.length) % tabs.length];
  navigateTo(name);
  $(`tab-${name}`).focus();
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest?.("input:not([type=checkbox]), textarea, select, dialog")) return;
  if (event.key === "?") $("menu").showPopover();
  else if (event.key === "/") {
    if (currentRoute()[0] !== "search") location.hash = "search";
    $("query").focus();
    $("query").select();
  } else return;
  event.preventDefault();
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

// Show the tabs whose features this server offers.
function showOfferedTabs({ quiz, store, add }) {
  const isOffered = { quiz: quiz.length > 0, duplicates: Boolean(store?.rows), add };
  for (const tab of document.querySelectorAll("[role=tab]")) tab.hidden = isOffered[tab.getAttribute("aria-controls")] === false;
  tabs = [...document.querySelectorAll("[role=tab]:not([hidden])")].map((tab) => tab.getAttribute("aria-controls"));
}

showTab(...currentRoute());
mountMenu();
serverInfo = await fetchServerInfo();
$("notice").hidden = true;
showOfferedTabs(serverInfo);
mountMenu(serverInfo);
mountSelectionBar(serverInfo.limits);
$("server-info").textContent = serverInfo.store ? pluralize(serverInfo.store.rows, "image") : "";
await showTab(...currentRoute());
