// The current request as a command of curl or a Python program.

import { $, el } from "./dom.js";
import { copyText } from "./export.js";

const MAX_DATA = 60; // characters of an image in base64; a longer one is left out

export function openCodeDialog(path, body) {
  const dialog = $("code-dialog");
  const url = new URL(path, document.baseURI).href;
  const needsKey = sessionStorage.getItem("zebra-api-key");
  const json = JSON.stringify(body, (name, value) => (name === "data" && value.length > MAX_DATA ? "BASE64" : value), 2);
  const samples = [["curl", curlSample(url, json, needsKey)], ["Python", pythonSample(url, json, needsKey)]];
  dialog.replaceChildren(
    el("h2", { id: "code-title" }, "This request as code"),
    json.includes('"BASE64"') && el("p", { class: "help" }, "Replace BASE64 by the image file in base64."),
    ...samples.flatMap(([name, text]) => {
      const button = el("button", { type: "button", onclick: async () => {
        await copyText(text);
        button.textContent = "Copied";
      } }, "Copy");
      return [el("div", { class: "code-heading" }, el("h3", {}, name), button), el("pre", { tabindex: 0, "aria-label": `${name} code` }, text)];
    }),
    el("p", { class: "button-row" }, el("a", { href: "docs" }, "All routes"), el("button", { type: "button", onclick: () => dialog.close() }, "Close")));
  dialog.onclick = (event) => { // the backdrop; a handler that returns false would cancel the click
    if (event.target === dialog) dialog.close();
  };
  dialog.showModal();
}

function curlSample(url, json, needsKey) {
  const header = needsKey ? " -H 'Authorization: Bearer KEY'" : "";
  return `curl ${url} -H 'Content-Type: application/json'${header} \\\n  -d '${json.replaceAll("'", "'\\''")}'`;
}

function pythonSample(url, json, needsKey) {
  const literal = json.replace(/: (true|false|null)(?=[,\n])/g, (_, word) => `: ${{ true: "True", false: "False", null: "None" }[word]}`);
  const header = needsKey ? ', headers={"Authorization": "Bearer KEY"}' : "";
  return `import requests\n\nrequest = ${literal}\nresponse = requests.post("${url}", json=request${header})\nresponse.raise_for_status()\nprint(response.json())`;
}
