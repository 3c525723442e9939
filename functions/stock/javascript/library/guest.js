// The interpreter's side of the contract, called by `glue/wafer.c`.
//
// Assets: `javascript` is the author's module, or a zip archive of modules. All others are the
// function's own. Parameters: `javascript_file` is the path of the module, `javascript_function`
// the export that is wanted, by default the default export. A trainer is told more by parameters
// that begin with `wafer.`. All others are the function's own.

import "wafer:system";
import { Refused } from "wafer";
import { trace, why } from "wafer:errors";
import { declared, imported, isLibrary, lineOf, resolved, source } from "wafer:modules";
import { log, settled } from "wafer:native";
import { rehearseWith } from "wafer:rehearsal";
import { columnsCall, rowsCall } from "wafer:rows";
import { Training } from "wafer:training";

export { resolved, source };

const CODE = "javascript", FILE = "javascript_file", FUNCTION = "javascript_function";
const TOLD = "wafer.";
const WARN = 3;
const MOST_TRACES = 3;

const assets = new Map();
let spec = null, compute = null, training = null, traces = 0;
let isRehearsed = false;

/** Takes a chunk of an asset. */
export function load(asset, chunk, _last) {
  if (!assets.has(asset)) assets.set(asset, []);
  assets.get(asset).push(new Uint8Array(chunk));
}

function taken(name) {
  const chunks = assets.get(name);
  assets.delete(name);
  if (chunks.length === 1) return chunks[0];
  const all = new Uint8Array(chunks.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

/** Returns the function's own assets and parameters. */
function own(parameters) {
  const given = Object.create(null), texts = Object.create(null);
  for (const name of [...assets.keys()]) given[name] = taken(name);
  for (const [name, value] of parameters) texts[name] = value;
  return [given, texts];
}

/** Imports the author's module; returns what is declared in it, and the function's own parameters. */
function found(kind, pairs) {
  const parameters = new Map(pairs);
  const path = parameters.get(FILE) ?? "function.js", wanted = parameters.get(FUNCTION) ?? null;
  parameters.delete(FILE);
  parameters.delete(FUNCTION);
  if (isRehearsed && isLibrary(path)) throw new Refused(`\`${path}\` is a module of Wafer: give the file another name`);
  if (!assets.has(CODE)) throw new Refused(`the asset \`${CODE}\` is missing, the function's code`);
  const module = imported(path, taken(CODE));
  return [declared(path, module, kind, wanted), parameters];
}

/** Makes the function; returns why it cannot be one, or null. */
export function init(pairs) {
  try {
    const [declaration, parameters] = found("function", pairs);
    spec = declaration;
    const state = stateOf(parameters);
    compute = spec.columns ? columnsCall(spec, state) : rowsCall(spec, state, report);
    // What promises still wait for would otherwise be lost.
    settled(Promise.resolve());
    return null;
  } catch (error) {
    return why(error, lineOf);
  }
}

function stateOf(parameters) {
  if (spec.init === null) {
    if (parameters.size === 0) return undefined;
    const names = [...parameters.keys()].sort().map((name) => `\`${name}\``).join(", ");
    throw new Refused(`the function has no \`init\`, which would take the parameters ${names}`);
  }
  const state = spec.init(...own(parameters));
  if (state instanceof Promise) throw new Refused("`init` returned a promise, which nothing waits for");
  return state;
}

export function describe() {
  const fields = (list) => list.map(described);
  return [fields(spec.inputs), fields(spec.outputs), spec.filter || spec.many ? 1 : 0, spec.doc];
}

function described({ name, type }) {
  return [name, type.tag, type.dimension, type.isNullable, type.description];
}

/** Computes a batch; returns an error of the whole batch as a text. */
export function call(rows, batch) {
  traces = 0;
  try {
    return compute(rows, batch);
  } catch (error) {
    return why(error, lineOf);
  }
}

/** Logs the stack of a row that failed, of the first ones of a batch, line by line. */
function report(error) {
  if (traces++ >= MOST_TRACES) return;
  for (const line of trace(error, lineOf).split("\n")) log(WARN, line);
}

/** Begins a training; returns the columns of its rows, or why there is none. */
export function begin(pairs, label) {
  try {
    const [declaration, parameters] = found("trainer", pairs);
    const mine = [...parameters].filter(([name]) => !name.startsWith(TOLD));
    training = new Training(declaration, own(mine), label);
    return declaration.inputs.map(described);
  } catch (error) {
    return why(error, lineOf);
  }
}

/** Feeds rows; returns why the training cannot go on, or null. */
export function feed(role, rows, batch) {
  try {
    training.feed(role, rows, batch);
    return null;
  } catch (error) {
    return why(error, lineOf);
  }
}

/** Ends a pass; returns whether the rows are fed once more, or why the training failed. */
export function nextPass() {
  try {
    return training.nextPass();
  } catch (error) {
    return why(error, lineOf);
  }
}

/** Ends the training; returns its artifacts and metrics, or why there are none. */
export function finish() {
  try {
    return training.finish();
  } catch (error) {
    return why(error, lineOf);
  }
}

/** Returns a piece of an artifact. */
export function read(artifact, offset) {
  return training.read(artifact, offset);
}

/** Makes and calls functions when the component is built, so that others find all made. */
export function rehearse() {
  rehearseWith({ load, init, describe, call });
  spec = compute = null;
  traces = 0;
  isRehearsed = true;
}
