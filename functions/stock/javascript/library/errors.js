// Errors, as an author is told of them: the lines of the author's files only.

import { described, Refused } from "wafer";

const FRAME = /^ {4}at (?:(.*) \()?(.*?):(\d+)(?::(\d+))?\)?$/;
const MOST_FRAMES = 20;

// How many calls of a stack QuickJS notes.
Error.stackTraceLimit = 64;

/** What other programs have, and a function has not. */
const NOT_THERE = new Map(Object.entries({
  Buffer: "binary values are `Uint8Array`s",
  XMLHttpRequest: "a function has no network: what it needs are its inputs, assets and parameters",
  __dirname: "a function has no files: what it needs are assets",
  document: "there is no page",
  exports: "files are ES modules: write `export`",
  module: "files are ES modules: write `export`",
  process: "a function has no environment: what it needs are parameters",
  require: "files are ES modules: write `import … from \"./FILE.js\"`",
  window: "there is no page",
  Temporal: "times are `bigint`s of microseconds or `Date`s",
  Intl: "QuickJS has no `Intl`: format by hand, or outside of the function",
  WeakRef: "what it shows depends on when memory is freed",
  FinalizationRegistry: "what it shows depends on when memory is freed",
}));

/** Returns the calls of an error's stack that are in the author's files, the latest first. */
export function ownFrames(error) {
  const stack = stackOf(error);
  const frames = [];
  for (const line of stack.split("\n")) {
    const match = FRAME.exec(line);
    if (match === null || !isOwn(match[2])) continue;
    frames.push({ name: match[1] ?? "", file: match[2], line: Number(match[3]) });
  }
  return frames;
}

function stackOf(error) {
  try {
    const stack = error instanceof Error ? error.stack : "";
    return typeof stack === "string" ? stack : "";
  } catch {
    return "";
  }
}

function isOwn(file) {
  return file !== "wafer" && !file.startsWith("wafer:") && !file.startsWith("<");
}

const MEMORY = "the setting `memory` of the function says how much there is";

/** Returns whether what was thrown is an error. A proxy may be unable to say. */
export function isError(thrown, type = Error) {
  try {
    return thrown instanceof type;
  } catch {
    return false;
  }
}

/** Returns the type and the message of what was thrown, and what to do where they do not say it. */
export function explained(error) {
  try {
    return explanation(error);
  } catch {
    return "what was thrown cannot be read: throw an Error";
  }
}

function explanation(error) {
  // QuickJS throws null if not even an error fits into the memory.
  if (error === null) return `null was thrown, as it is when there is no memory left; ${MEMORY}`;
  if (!isError(error)) return `${described(error)} was thrown, which has no line: throw an Error`;
  let name = "Error", message = "";
  try {
    name = String(error.name);
    message = String(error.message);
  } catch {
    // Its own code says what they are, and fails.
  }
  if (error instanceof Refused) return message;
  const text = message === "" ? name : `${name}: ${message}`;
  const absent = error instanceof ReferenceError ? /^'?(\w+)'? is not defined/.exec(message)?.[1] : undefined;
  if (NOT_THERE.has(absent)) return `${text}; ${NOT_THERE.get(absent)}`;
  if (message === "out of memory") return `${text}; ${MEMORY}`;
  return text;
}

/** Returns an error with the place in the author's files where it was thrown. */
export function located(error) {
  const [last] = ownFrames(error);
  if (last === undefined) return explained(error);
  return `${last.file}, line ${last.line}${inName(last)}: ${explained(error)}`;
}

function inName({ name }) {
  return name === "" || name.startsWith("<") ? "" : `, in ${name}`;
}

/** Returns the lines that tell of an error: itself, and the calls that led to it with their source. */
export function trace(error, lineOf) {
  const lines = [explained(error)];
  const frames = ownFrames(error);
  for (const frame of frames.slice(0, MOST_FRAMES)) {
    lines.push(`    at ${frame.file}, line ${frame.line}${inName(frame)}`);
    const source = lineOf(frame.file, frame.line).trim();
    if (source !== "") lines.push(`        ${source.length > 200 ? `${source.slice(0, 199)}…` : source}`);
  }
  if (frames.length > MOST_FRAMES) lines.push(`    (and ${frames.length - MOST_FRAMES} calls more)`);
  return lines.join("\n");
}

/** Returns why a function cannot be registered, with its place in the author's files. */
export function why(error, lineOf) {
  return isError(error, Refused) ? located(error) : trace(error, lineOf);
}
