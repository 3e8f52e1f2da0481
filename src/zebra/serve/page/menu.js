// The menu: what is served, the theme, the keys, and the way to the API reference.

import { $, el, loadSetting, pluralize, saveSetting } from "./dom.js";

const THEMES = ["system", "light", "dark"];
const KEYS = [
  ["/", "go to the search field"],
  ["arrows", "move between images; from the search field, down"],
  ["Enter", "open the image"],
  ["x", "select it; X selects from the one before"],
  ["Ctrl A", "select all images that are shown"],
  ["m, l", "more, or less, like this image"],
  ["?", "this menu"],
];

export function mountMenu(serverInfo = null) {
  $("menu").replaceChildren(
    serverInfo && el("dl", { class: "menu-facts" },
      ...describeServer(serverInfo).flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    el("fieldset", { class: "themes" }, el("legend", {}, "Theme"), el("div", { class: "choices" }, ...THEMES.map((theme) => el("label", {},
      el("input", { type: "radio", name: "theme", value: theme, checked: theme === loadSetting("theme", "system"), onchange: () => {
        saveSetting("theme", theme);
        document.documentElement.dataset.theme = theme;
        document.dispatchEvent(new Event("theme-change"));
      } }), el("span", {}, theme))))),
    el("h2", {}, "Keys"),
    el("dl", { class: "menu-keys" }, ...KEYS.flatMap(([key, text]) => [el("dt", {}, el("kbd", {}, key)), el("dd", {}, text)])),
    el("p", { class: "help" }, "Select images by the box in their corner, also with Shift for a range. The bar below then copies paths, exports a table or downloads files."),
    el("p", {}, el("a", { href: "docs" }, "HTTP API reference")));
}

function describeServer({ model, store, version }) {
  const saved = model.saved_at && `saved ${new Date(model.saved_at).toLocaleDateString("en-GB", { day: "numeric", month: "short", year: "numeric" })}`;
  return [
    ["Model", [model.name, `${model.image_size} px`, saved].filter(Boolean).join(", ")],
    store && ["Store", [store.name, pluralize(store.rows, "image")].filter(Boolean).join(", ")],
    ["zebra", version],
  ].filter(Boolean);
}
