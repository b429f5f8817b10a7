/** What a consumer must not forget: its effects, and how far it has come. */

import { readFileSync, renameSync, writeFileSync } from "node:fs";

/**
 * Maps in one JSON file, which is replaced as a whole: they are committed together, or none of them.
 *
 * Node 20 has no SQLite. Each commit writes everything, so this is for small states. For larger ones use a database, and
 * commit by a transaction.
 */
export class State {
  #path;
  #names;

  constructor(path, names) {
    this.#path = path;
    this.#names = names;
    const stored = read(path);
    for (const name of names) this[name] = new Map(Object.entries(stored[name] ?? {}));
  }

  commit() {
    const stored = Object.fromEntries(this.#names.map((name) => [name, Object.fromEntries(this[name])]));
    // Written beside it, flushed to disk, then renamed: at no time is there half a file. If a power failure undoes the
    // rename, it undoes the checkpoints as well, and the same records are read again.
    const beside = `${this.#path}.new`;
    writeFileSync(beside, JSON.stringify(stored), { flush: true });
    renameSync(beside, this.#path);
  }
}

function read(path) {
  try {
    return JSON.parse(readFileSync(path, "utf8"));
  } catch (error) {
    if (error.code === "ENOENT") return {};
    throw error;
  }
}
