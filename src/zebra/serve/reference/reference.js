// Render openapi.json: one <details> element per route, with its parameters, request and response.
"use strict";

const createElement = (tag, attributes = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...children);
  return element;
};

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
    return createElement("div", {}, ...alternatives.flatMap((option) =>
      [createElement("p", {}, describeType(api, option)), renderFields(api, option)]));
  }
  if (!resolved.properties) return createElement("p", {}, describeType(api, schema));
  const table = createElement("table", {},
    createElement("tr", {}, ...["field", "type", ""].map((name) => createElement("th", {}, name))));
  for (const [name, field] of Object.entries(resolved.properties)) {
    const isRequired = (resolved.required || []).includes(name);
    const defaultText = field.default !== undefined && field.default !== null ? `default ${JSON.stringify(field.default)}` : "";
    const notes = [isRequired ? "required" : defaultText, resolveRef(api, field).description].filter(Boolean).join("; ");
    table.append(createElement("tr", {},
      createElement("td", {}, createElement("code", {}, name)), createElement("td", {}, describeType(api, field)), createElement("td", {}, notes)));
  }
  return table;
}

function renderRoute(api, path, method, operation) {
  const content = createElement("div", {}, createElement("p", {}, operation.description || ""));
  const parameters = operation.parameters || [];
  if (parameters.length) {
    const lines = parameters.flatMap((parameter) =>
      [createElement("code", {}, parameter.name), ": ", describeType(api, parameter.schema), createElement("br")]);
    content.append(createElement("h3", {}, "Parameters"), createElement("p", {}, ...lines));
  }
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  if (body) content.append(createElement("h3", {}, "Request"), renderFields(api, body));
  const responseSchema = operation.responses?.["200"]?.content?.["application/json"]?.schema;
  if (responseSchema) content.append(createElement("h3", {}, "Response"), renderFields(api, responseSchema));
  const data = body ? " -H 'Content-Type: application/json' -d '{…}'" : "";
  const form = operation.requestBody?.content?.["multipart/form-data"]?.schema;
  if (form) content.append(createElement("h3", {}, "Request as a form"), renderFields(api, form));
  const url = `${new URL(".", location.href)}${path.slice(1)}`;
  const formExample = form ? `\ncurl ${url} -F image=@photo.jpg${(form.required || []).map((name) => ` -F '${name}=…'`).join("")}` : "";
  content.append(createElement("h3", {}, "Example"), createElement("pre", {}, `curl ${url}${data}${formExample}`));
  const summary = createElement("summary", {},
    createElement("span", { className: "method" }, method.toUpperCase()), " ", createElement("code", {}, path),
    createElement("span", { className: "route-summary" }, (operation.description || "").split(/[.;:]/)[0]));
  return createElement("details", {}, summary, content);
}

async function renderReference() {
  const api = await (await fetch("openapi.json")).json();
  const groups = {};
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(methods))
      (groups[operation.tags?.[0] || "service"] ||= []).push(renderRoute(api, path, method, operation));
  const main = document.querySelector("main");
  for (const [name, routes] of Object.entries(groups)) main.append(createElement("h2", {}, name), ...routes);
  const schemas = createElement("div");
  for (const [name, schema] of Object.entries(api.components?.schemas || {})) {
    const details = createElement("details", {}, createElement("summary", {}, createElement("code", {}, name)),
      createElement("div", {}, schema.description || "", renderFields(api, schema)));
    schemas.append(details);
  }
  main.append(createElement("h2", {}, "schemas"), schemas);
}

renderReference().catch((error) => document.querySelector("main").append(`Could not load the API reference: ${error.message}`));
