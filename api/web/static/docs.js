"use strict";
// Draws /openapi.json. Text is only ever set as text, never as HTML.

const METHODS = ["get", "post", "put", "patch", "delete"];

function element(tag, text, ...children) {
  const made = document.createElement(tag);
  if (text) made.textContent = text;
  made.append(...children);
  return made;
}

function resolve(spec, schema) {
  while (schema && schema.$ref) {
    schema = schema.$ref.slice(2).split("/").reduce((at, key) => at[key], spec);
  }
  return schema || {};
}

function typeOf(spec, schema) {
  if (schema.$ref) schema = resolve(spec, schema);
  if (schema.enum) return schema.enum.map((each) => JSON.stringify(each)).join(" | ");
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.anyOf) return schema.anyOf.map((each) => typeOf(spec, each)).join(" | ");
  if (schema.type === "array") return `array of ${typeOf(spec, schema.items || {})}`;
  return schema.type || schema.title || "any";
}

function limits(schema) {
  const shown = ["default", "pattern", "minimum", "maximum", "minLength", "maxLength", "minItems",
    "maxItems"];
  return shown.filter((key) => schema[key] !== undefined)
    .map((key) => `${key} ${JSON.stringify(schema[key])}`).join(", ");
}

function table(rows) {
  const body = element("tbody");
  for (const row of rows) {
    body.append(element("tr", "", ...row.map((cell, n) =>
      element("td", "", n === 0 ? element("code", cell) : element("span", cell)))));
  }
  return element("table", "", body);
}

function fields(spec, schema) {
  const required = new Set(schema.required || []);
  return table(Object.entries(schema.properties || {}).map(([name, each]) => [
    name,
    typeOf(spec, each) + (required.has(name) ? ", required" : ""),
    [resolve(spec, each).description || each.description || "", limits(each)]
      .filter(Boolean).join(" "),
  ]));
}

function curl(spec, method, path, operation) {
  const parts = [`curl -X ${method.toUpperCase()} ${location.origin}${path}`];
  if (operation.security) parts.push(`-H "Authorization: Bearer $RTCORE_KEY"`);
  for (const each of operation.parameters.filter((p) => p.in === "header" && p.required)) {
    parts.push(`-H '${each.name}: ${each.example}'`);
  }
  const content = (operation.requestBody || {}).content || {};
  if (content["multipart/form-data"]) parts.push("-F file=@menu.md");
  if (content["application/json"]) {
    const example = (resolve(spec, content["application/json"].schema).examples || [{}])[0];
    parts.push("-H 'Content-Type: application/json'");
    parts.push(`-d '${JSON.stringify(example, null, 2).replaceAll("'", "'\\''")}'`);
  }
  return parts.join(" \\\n  ");
}

function draw(spec, method, path, operation) {
  const head = element("summary", "", element("code", method.toUpperCase(), ""),
    document.createTextNode(" "), element("code", path),
    document.createTextNode(` — ${operation.summary}`));
  head.firstChild.className = "method";
  const box = element("details", "", head);
  box.id = operation.operationId;
  if (operation.description) box.append(element("p", operation.description));
  box.append(element("pre", curl(spec, method, path, operation)));
  if (operation.parameters.length) {
    box.append(element("h4", "Parameters"), table(operation.parameters.map((each) => [
      each.name, `${each.in}${each.required ? ", required" : ""}, ${typeOf(spec, each.schema)}`,
      [each.description || each.schema.description || "", limits(each.schema)].filter(Boolean).join(" "),
    ])));
  }
  const body = (((operation.requestBody || {}).content || {})["application/json"] || {}).schema;
  if (body) box.append(element("h4", "Body"), fields(spec, resolve(spec, body)));
  box.append(element("h4", "Answers"));
  for (const [status, answer] of Object.entries(operation.responses)) {
    const [type, media] = Object.entries(answer.content || {})[0] || ["", {}];
    const schema = resolve(spec, media.schema);
    const example = media.example || (schema.examples || [])[0];
    const inner = element("details", "", element("summary", `${status} ${answer.description} ${type}`));
    if (schema.properties) inner.append(fields(spec, schema));
    if (example) inner.append(element("pre", JSON.stringify(example, null, 2)));
    box.append(inner);
  }
  return box;
}

async function main() {
  const spec = await (await fetch("/openapi.json")).json();
  document.title = spec.info.title;
  document.getElementById("title").textContent = `${spec.info.title} ${spec.info.version}`;
  document.getElementById("about").textContent = spec.info.description;
  const byTag = new Map();
  for (const [path, item] of Object.entries(spec.paths)) {
    for (const method of METHODS.filter((each) => item[each])) {
      const tag = item[method].tags[0];
      byTag.set(tag, [...(byTag.get(tag) || []), [method, path, item[method]]]);
    }
  }
  for (const [tag, operations] of byTag) {
    const list = element("ul");
    const section = element("section", "", element("h2", tag));
    for (const [method, path, operation] of operations) {
      const link = element("a", operation.summary);
      link.href = `#${operation.operationId}`;
      link.addEventListener("click", () => { document.getElementById(operation.operationId).open = true; });
      list.append(element("li", "", link));
      section.append(draw(spec, method, path, operation));
    }
    document.getElementById("contents").append(element("h3", tag), list);
    document.getElementById("operations").append(section);
  }
}

main();
