// Draws /openapi.json: one fold for each route, with what it takes and what it gives.
"use strict";

const make = (tag, attributes = {}, ...inside) => {
  const element = Object.assign(document.createElement(tag), attributes);
  element.append(...inside);
  return element;
};

const resolve = (api, schema) =>
  schema && schema.$ref ? schema.$ref.slice(2).split("/").reduce((at, key) => at[key], api) : schema ?? {};

// A type in words: "list of 1–64 × text", "picture", "number from −1 to 1".
function words(api, schema) {
  const named = schema && schema.$ref ? schema.$ref.split("/").pop() : "";
  const found = resolve(api, schema);
  const either = found.anyOf || found.oneOf;
  if (either) return either.map((one) => words(api, one)).join(" or ");
  if (found.const !== undefined) return JSON.stringify(found.const);
  if (found.enum) return found.enum.map((one) => JSON.stringify(one)).join(" or ");
  if (found.type === "array") return `list of ${span(found.minItems, found.maxItems)}${words(api, found.items)}`;
  if (named) return named;
  const range = found.type === "string" ? span(found.minLength, found.maxLength, " characters of ") : "";
  const bounds = found.minimum !== undefined ? ` from ${found.minimum} to ${found.maximum}` : "";
  return range + ({ string: "text", object: "mapping" }[found.type] || found.type || "anything") + bounds;
}

const span = (least, most, of = " × ") => (most === undefined ? "" : `${least ?? 0}–${most.toLocaleString("en")}${of}`);

function fields(api, schema) {
  const found = resolve(api, schema);
  const either = found.anyOf || found.oneOf;
  if (either) return make("div", {}, ...either.flatMap((one) => [make("p", {}, words(api, one)), fields(api, one)]));
  if (!found.properties) return make("p", {}, words(api, schema));
  const table = make("table", {}, make("tr", {}, ...["field", "type", ""].map((name) => make("th", {}, name))));
  for (const [name, field] of Object.entries(found.properties)) {
    const needed = (found.required || []).includes(name);
    const preset = field.default !== undefined && field.default !== null ? `default ${JSON.stringify(field.default)}` : "";
    const said = [needed ? "required" : preset, resolve(api, field).description].filter(Boolean).join("; ");
    table.append(make("tr", {}, make("td", {}, make("code", {}, name)), make("td", {}, words(api, field)), make("td", {}, said)));
  }
  return table;
}

function route(api, path, method, operation) {
  const inside = make("div", {}, make("p", {}, operation.description || ""));
  const places = operation.parameters || [];
  if (places.length) {
    const rows = places.flatMap((one) => [make("code", {}, one.name), ": ", words(api, one.schema), make("br")]);
    inside.append(make("h3", {}, "In the address"), make("p", {}, ...rows));
  }
  const body = operation.requestBody?.content?.["application/json"]?.schema;
  if (body) inside.append(make("h3", {}, "Request"), fields(api, body));
  const answer = operation.responses?.["200"]?.content?.["application/json"]?.schema;
  if (answer) inside.append(make("h3", {}, "Answer"), fields(api, answer));
  const data = body ? " -H 'Content-Type: application/json' -d '{…}'" : "";
  inside.append(make("h3", {}, "By hand"), make("pre", {}, `curl ${location.origin}${path}${data}`));
  const head = make("summary", {}, make("span", { className: "method" }, method.toUpperCase()), " ", make("code", {}, path));
  head.append(make("span", { className: "what" }, (operation.description || "").split(/[.;:]/)[0]));
  return make("details", {}, head, inside);
}

async function draw() {
  const api = await (await fetch("/openapi.json")).json();
  const groups = {};
  for (const [path, methods] of Object.entries(api.paths))
    for (const [method, operation] of Object.entries(methods))
      (groups[operation.tags?.[0] || "service"] ||= []).push(route(api, path, method, operation));
  const main = document.querySelector("main");
  for (const [name, routes] of Object.entries(groups)) main.append(make("h2", {}, name), ...routes);
  const shapes = make("div");
  for (const [name, schema] of Object.entries(api.components?.schemas || {})) {
    const fold = make("details", {}, make("summary", {}, make("code", {}, name)), make("div", {}, schema.description || "", fields(api, schema)));
    shapes.append(fold);
  }
  main.append(make("h2", {}, "shapes"), shapes);
}

draw().catch((error) => document.querySelector("main").append(`The reference cannot be drawn: ${error.message}`));
