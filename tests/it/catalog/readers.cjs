// What JavaScript readers make of a schema: ajv 6 and 8 with their defaults, and the TypeScript that json-schema-to-typescript generates.
// Standard input: {"schema": …, "values": […]}. Prints one line of JSON: for each value, who accepts it.
"use strict";

const { readFileSync } = require("node:fs");
const { compile } = require("json-schema-to-typescript");
const ts = require("typescript");

const { schema, values } = JSON.parse(readFileSync(0, "utf8"));
const logged = [];
for (const level of ["log", "warn", "error"]) console[level] = (...said) => logged.push(said.join(" "));

// One program for all values: a value that does not fit is an error in its own line.
async function typed() {
  const model = await compile(schema, schema.title, { bannerComment: "" });
  const head = model.split("\n").length;
  const lines = values.map((value, n) => `export const v${n}: ${schema.title} = ${JSON.stringify(value)};`);
  const options = { strict: true, target: ts.ScriptTarget.ES2022, types: [] };
  const host = ts.createCompilerHost(options);
  const read = host.getSourceFile;
  host.getSourceFile = (name, ...rest) =>
    name === "model.ts" ? ts.createSourceFile(name, [model, ...lines].join("\n"), ts.ScriptTarget.ES2022) : read(name, ...rest);
  const program = ts.createProgram(["model.ts"], options, host);
  const wrong = ts.getPreEmitDiagnostics(program).map(({ file, start }) => file.getLineAndCharacterOfPosition(start).line - head);
  return { model, accepted: values.map((_, n) => !wrong.includes(n)), broken: wrong.some((line) => line < 0) };
}

async function main() {
  const verdict = {};
  for (const version of ["ajv6", "ajv8"]) {
    const Ajv = require(version).default ?? require(version);
    const validate = new Ajv().compile(schema);
    verdict[version] = values.map((value) => validate(value));
  }
  const { model, accepted, broken } = await typed();
  process.stdout.write(JSON.stringify({ ...verdict, typescript: accepted, model, broken, logged }));
}

main();
