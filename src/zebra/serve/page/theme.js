// Apply the chosen theme before the first paint; a classic script, because modules run after parsing.
"use strict";

function applyTheme() {
  let theme = "system";
  try {
    theme = JSON.parse(localStorage.getItem("zebra-theme")) ?? theme;
  } catch {
    // the browser blocks storage, or the value is damaged: follow the system
  }
  document.documentElement.dataset.theme = theme;
}

applyTheme();
