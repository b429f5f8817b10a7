/**
 * What Forebay promises to consumers, as code; docs/CONSUMERS.md says why. No dependencies.
 *
 * An event takes effect exactly once if what `isNew` notes and the effect are committed together.
 */

/** The events of a Kinesis record. A record may hold several. Their `data` is JSON text: `members` reads it. */
export function* events(data) {
  for (const line of new TextDecoder().decode(data).split("\n")) {
    if (line) yield { ...JSON.parse(line), data: members(line).get("data") };
  }
}

/** Whether the event is later than all others of its key, which is then noted. If it is not: a repeat, skip it. */
export function isNew(state, event) {
  const key = JSON.stringify([event.source, event.partitionkey]);
  if (event.sequence <= (state.sequences.get(key) ?? "")) return false;
  state.sequences.set(key, event.sequence);
  return true;
}

/**
 * The members of a JSON object, each value as the text that the object has.
 *
 * JSON.parse makes doubles of numbers: 9007199254740993 and 1.50 do not survive that. Their text can be stored and copied.
 * To calculate, parse it with a package that keeps all digits, such as lossless-json.
 */
export function members(json) {
  const found = new Map();
  let name;
  let start = json.indexOf("{") + 1;
  let depth = 0;
  let quoted = false;
  for (const { 0: token, index } of json.matchAll(/\\.|["{}[\]:,]/g)) {
    if (token === '"') quoted = !quoted;
    if (quoted) continue;
    if (depth === 1 && token === ":") {
      name = JSON.parse(json.slice(start, index));
      start = index + 1;
    } else if (depth === 1 && (token === "," || token === "}") && name !== undefined) {
      found.set(name, json.slice(start, index).trim());
      start = index + 1;
    }
    if (token === "{" || token === "[") depth += 1;
    if (token === "}" || token === "]") depth -= 1;
  }
  return found;
}

/** The JSON object that has these members. */
export function object(members) {
  return `{${[...members].map(([name, value]) => `${JSON.stringify(name)}:${value}`).join(",")}}`;
}
