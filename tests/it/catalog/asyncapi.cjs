// Reads an AsyncAPI document on standard input with the official parser, and its examples with the schemas that it gives.
// Prints one line of JSON: {"errors": […], "messages": n, "examples": n, "deprecated": […]}.
"use strict";

const { readFileSync } = require("node:fs");
const { createRequire } = require("node:module");
const { Parser } = require("@asyncapi/parser");

// The validator that the parser itself uses.
const its = createRequire(require.resolve("@asyncapi/parser"));
const Ajv = its("ajv").default;
const addFormats = its("ajv-formats").default;

async function main() {
  const { document, diagnostics } = await new Parser().parse(readFileSync(0, "utf8"));
  const errors = diagnostics.filter(({ severity }) => severity === 0).map(({ path, message }) => `${path.join(".")}: ${message}`);
  const said = { errors, messages: 0, examples: 0, deprecated: [] };
  const ajv = addFormats(new Ajv({ strict: false, allErrors: true, validateFormats: true }));
  // Our own marks for sizes of integers are no formats of text.
  for (const format of ["int16", "int32", "int64"]) ajv.addFormat(format, true);
  for (const message of document?.allMessages() ?? []) {
    said.messages += 1;
    const payload = message.payload();
    if (payload.deprecated()) said.deprecated.push(message.name());
    const validate = ajv.compile(payload.json());
    for (const example of message.examples()) {
      said.examples += 1;
      if (!validate(example.payload())) errors.push(`the example of ${message.name()}: ${ajv.errorsText(validate.errors)}`);
    }
  }
  console.log(JSON.stringify(said));
}

main();
