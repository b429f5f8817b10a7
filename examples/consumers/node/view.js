/**
 * A copy of tables in a JSON file, made from their events alone. Needs Node 20.10 or later.
 *
 *     npm install
 *     node view.js --database view.json --stream lab-events [--endpoint http://127.0.0.1:4566] [--until-idle]
 *
 * It reads the automatic events of the tables: <table>.inserted, .updated, .deleted and .truncated. `current` then has what
 * the database has: one row for each key, with the columns as JSON. --print prints it, one row on each line.
 *
 * Stop the program at any time, also with kill -9: it continues after the last batch that it committed.
 */

import { parseArgs } from "node:util";

import { KinesisClient } from "@aws-sdk/client-kinesis";
import { NodeHttpHandler } from "@smithy/node-http-handler";

import { events, isNew, members, object } from "./contract.js";
import { State } from "./state.js";
import { Stream } from "./stream.js";

const MAPS = [
  "checkpoints", // by shard
  "sequences", // by source and partition key: the last `sequence`
  "rows", // by source, table and key: the `sequence` of the last event, and the row as JSON text; null: deleted
  "truncated", // by source and table: the `sequence` of the last `truncated`
];

const AUTOMATIC = /^(.+)\.(inserted|updated|deleted|truncated)\.v1$/s;

/** The columns whose value the database did not send: SQL identifiers, in quotes where they need them. */
function unavailable(event) {
  const names = (event.unavailable ?? "").matchAll(/"((?:[^"]|"")*)"|([^",]+)/g);
  return [...names].map(([, quoted, plain]) => plain ?? quoted.replaceAll('""', '"'));
}

/** The effect of an event that is new. */
function handle(state, event) {
  const [, table, what] = AUTOMATIC.exec(event.type) ?? [];
  if (!table) return;
  const { source, subject, sequence } = event;
  if (what === "truncated") {
    // It has another key than the rows, so it may come before or after events of rows: `current` compares the sequences.
    const key = JSON.stringify([source, table]);
    if (sequence > (state.truncated.get(key) ?? "")) state.truncated.set(key, sequence);
    return;
  }
  const key = JSON.stringify([source, table, subject]);
  let data = null;
  if (what !== "deleted") {
    const row = members(event.data);
    const old = members(state.rows.get(key)?.data ?? "{}");
    for (const column of unavailable(event)) {
      if (old.has(column)) row.set(column, old.get(column));
    }
    data = object(row);
  }
  state.rows.set(key, { sequence, data });
}

function handleRecord(state, data) {
  for (const event of events(data)) {
    if (isNew(state, event)) handle(state, event);
  }
}

/** The rows of all tables as [table, key, data], in this order. */
function current(state) {
  const rows = [];
  for (const [id, { sequence, data }] of state.rows) {
    const [source, table, key] = JSON.parse(id);
    const truncated = state.truncated.get(JSON.stringify([source, table])) ?? "";
    if (data !== null && sequence > truncated) rows.push([table, key, data]);
  }
  const compare = (a, b) => (a < b ? -1 : Number(a > b));
  return rows.sort((a, b) => compare(a[0], b[0]) || compare(a[1], b[1]));
}

const { values: given } = parseArgs({
  options: {
    database: { type: "string" },
    stream: { type: "string" },
    endpoint: { type: "string" },
    "until-idle": { type: "boolean" },
    print: { type: "boolean" },
  },
});
if (!given.database) throw new Error("--database is missing");
const state = new State(given.database, MAPS);
if (given.stream) {
  // The client's own handler speaks HTTP/2, which LocalStack does not.
  const kinesis = new KinesisClient({ endpoint: given.endpoint, requestHandler: new NodeHttpHandler() });
  await new Stream(kinesis, given.stream, state, handleRecord).run(given["until-idle"]);
  kinesis.destroy();
}
if (given.print) {
  for (const [table, key, data] of current(state)) {
    console.log(`[${JSON.stringify(table)}, ${JSON.stringify(key)}, ${data}]`);
  }
}
