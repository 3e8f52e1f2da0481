// Render openapi.json: one <details> element per route, with its parameters, request, response and a command of curl.

import { el } from "../page/dom.js";

const MAX_DEPTH = 4; // of lists in an example

const resolveRef = (api, schema) =>
  schema && schema.$ref ? schema.$ref.slice(2).split("/").reduce((node, key) => node[key], api) : schema ?? {};

// Return a type as text: "list of 1–64 × text", "RequestImage", "number from −1 to 1".
function describeType(api, schema) {
  const refName = schema && schema.$ref ? schema.$ref.split("/").pop() : "";
  const resolved = resolveRef(api, schema);
  const alternatives = resolved.anyOf || resolved.oneOf;
  if (alternatives) return alternatives.map((option) => describeType(api, option)).join(" or ");
  if (resolved.const !== undefined) return JSON.stringify(resolved.const);
  if (resolved.enum) return resolved.enum.map((option) => JSON.stringify(option)).join(" or ");
  if (resolved.type === "array") return `list of ${formatRange(resolved.minItems, resolved.maxItems)}${describeType(api, resolved.items)}`;
  if (refName) return refName;
  const length = resolved.type === "string" ? formatRange(resolved.minLength, resolved.maxLength, " characters of ") : "";
  const bounds = resolved.minimum !== undefined ? ` from ${resolved.minimum} to ${resolved.maximum}` : "";
  return length + ({ string: resolved.format === "binary" ? "file" : "text", object: "mapping" }[resolved.type] || resolved.type || "anything") + bounds;
}

const formatRange = (min, max, unit = " × ") => (max === undefined ? "" : `${min ?? 0}–${max.toLocaleString("en")}${unit}`);

function renderFields(api, schema) {
  const resolved = resolveRef(api, schema);
  const alternatives = resolved.anyOf || resolved.oneOf;
  if (alternatives) {
    return el("div", {}, ...alternatives.flatMap((option) => [el("p", {}, describeType(api, option)), renderFields(api, option)]));
  }
  if (!resolved.properties) return el("p", {}, describeType(api, schema));
  const table = el("table", {}, el("tr", {}, ...["field", "type", "meaning"].map((name) => el("th", { scope: "col" }, name))));
  for (const [name, field] of Object.entries(resolved.properties)) {
    const isRequired = (resolved.required || []).includes(name);
    const defaultText = field.default !== undefined && field.default !== null ? `default ${JSON.stringify(field.default)}` : "";
    const notes = [isRequired ? "required" : defaultText, resolveRef(api, field).description].filter(Boolean).join("; ");
    table.append(el("tr", {}, el("td", {}, el("code", {}, name)), el("td", {}, describeType(api, field)), el("td", {}, notes)));
  }
  return el("div", { class: "table-frame" }, table);
}

// Return a value that a schema allows, with the required fields only.
function exampleOf(api, schema, depth = 0) {
  const resolved = resolveRef(api, schema);
  const alternatives = resolved.anyOf || resolved.oneOf;
  if (alternatives) return exampleOf(api, alternatives[0], depth);
  if (resolved.const !== undefined) return resolved.const;
  if (resolved.enum) return resolved.enum[0];
  if (resolved.type === "array") return depth < MAX_DEPTH ? [exampleOf(api, resolved.items, depth + 1)] : [];
  if (resolved.type === "number" || resolved.type === "integer") return resolved.minimum ?? 1;
  if (resolved.type === "boolean") return true;
  if (!resolved.properties) return resolved.type === "string" ? "…" : {};
  const required = resolved.required || [];
  const names = Object.keys(resolved.properties).filter((name, index) => required.includes(name) || (!required.length && index === 0));
  return Object.fromEntries(names.map((name) => [name, exampleOf(api, resolved.properties[name], depth)]));
}

function curlOf(api, path, { body, form }) {
  const url = `${new URL(".", location.href)}${path.slice(1)}`;
  const json = body && `curl ${url} -H 'Content-Type: application/json' \\\n  -d '${JSON.stringify(exampleOf(api, body))}'`;
  const fields = form && `curl ${url} -F image=@photo.jpg${(form.required || []).map((name) => ` -F '${name}=…'`).join("")}`;
  return [json, fields].filter(Boolean).join("\n") || `curl ${url}`;
}

function renderRoute(api, path, method, operation) {
  const content = el("div", {}, el("p", {}, operation.description || ""));
  const parameters = operation.parameters || [];
  if (parameters.length) {
    content.append(el("h3", {}, "Parameters"), el("div", { class: "table-frame" }, el("table", {}, ...parameters.map((parameter) =>
      el("tr", {}, el("td", {}, el("code", {}, parameter.name)), el("td", {}, describeType(api, parameter.schema)))))));
  }
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  const form = operation.requestBody?.content?.["multipart/form-data"]?.schema;
  const response = operation.responses?.["200"]?.content?.["application/json"]?.schema;
  for (const [title, schema] of [["Request", body], ["Response", response], ["Request as a form", form]]) {
    if (schema) content.append(el("h3", {}, title), renderFields(api, schema));
  }
  content.append(el("h3", {}, "Example"), el("pre", { tabindex: 0, "aria-label": "command of curl" }, curlOf(api, path, { body, form })));
  return el("details", {}, el("summary", {}, el("span", { class: "method" }, method.toUpperCase()), " ", el("code", {}, path),
    el("span", { class: "route-summary" }, (operation.description || "").split(/[.;:]/)[0])), content);
}

async function renderReference() {
  const api = await (await fetch("openapi.json")).json();
  const groups = new Map();
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, operation] of Object.entries(methods)) {
      const name = operation.tags?.[0] || "service";
      groups.set(name, [...(groups.get(name) ?? []), renderRoute(api, path, method, operation)]);
    }
  }
  groups.set("schemas", Object.entries(api.components?.schemas || {}).map(([name, schema]) => el("details", {},
    el("summary", {}, el("code", {}, name)), el("div", {}, el("p", {}, schema.description || ""), renderFields(api, schema)))));
  document.getElementById("routes").replaceChildren(...[...groups].flatMap(([name, routes]) => [el("h2", {}, name), ...routes]));
}

renderReference().catch((error) => document.getElementById("routes").append(`Could not load the API reference: ${error.message}`));
