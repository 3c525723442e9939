// What a function has not, since it would be another each time: each says what to do instead. The
// console, which is the log. And what the library relies on, which stays as it is.

import { described, Refused } from "wafer";
import { explained, isError } from "wafer:errors";
import { decoded, log, nesting, packedTexts } from "wafer:native";

const DEBUG = 1, INFO = 2, WARN = 3, ERROR = 4;

const NO_CLOCK = "a function has no clock: a time is a column of its rows";
const NO_CHANCE = "a function has no randomness: compute numbers from a seed that is made of the row";
const NO_WAITING = "a function cannot wait: there is no time and nothing to wait for";
const NO_NETWORK = "a function has no network: what it needs are its inputs, assets and parameters";

function refusing(name, reason) {
  return named(name, () => {
    throw new Refused(`\`${name}\`: ${reason}`);
  });
}

function named(name, made) {
  return Object.defineProperty(made, "name", { value: name.split(".").pop().replace("()", "") });
}

function define(object, properties) {
  for (const [name, value] of Object.entries(properties)) {
    Object.defineProperty(object, name, { value, writable: true, configurable: true, enumerable: false });
  }
  return object;
}

const NativeDate = Date;

/** `Date` without a clock. */
function DateOfArguments(...given) {
  if (new.target === undefined) throw new Refused(`\`Date()\`: ${NO_CLOCK}`);
  if (given.length === 0) throw new Refused(`\`new Date()\`: ${NO_CLOCK}`);
  return Reflect.construct(NativeDate, given, new.target);
}

function installDate() {
  Object.defineProperty(DateOfArguments, "name", { value: "Date" });
  Object.defineProperty(DateOfArguments, "length", { value: NativeDate.length });
  Object.defineProperty(DateOfArguments, "prototype", { value: NativeDate.prototype, writable: false });
  define(DateOfArguments, { UTC: NativeDate.UTC, parse: NativeDate.parse, now: refusing("Date.now()", NO_CLOCK) });
  define(NativeDate.prototype, { constructor: DateOfArguments });
  define(globalThis, { Date: DateOfArguments });
}

function installRefusals() {
  define(Math, { random: refusing("Math.random()", NO_CHANCE) });
  define(globalThis, {
    performance: define({}, { now: refusing("performance.now()", NO_CLOCK) }),
    crypto: define({}, {
      getRandomValues: refusing("crypto.getRandomValues()", NO_CHANCE),
      randomUUID: refusing("crypto.randomUUID()", NO_CHANCE),
    }),
    fetch: refusing("fetch()", NO_NETWORK),
  });
  for (const name of ["setTimeout", "setInterval", "setImmediate", "requestAnimationFrame", "queueMicrotask"]) {
    define(globalThis, { [name]: refusing(`${name}()`, NO_WAITING) });
  }
  // These depend on when memory is freed, or on threads. QuickJS is not given the first ones.
  for (const name of ["WeakRef", "FinalizationRegistry", "SharedArrayBuffer", "Atomics"]) delete globalThis[name];
}

/** How deep JSON may be nested. QuickJS parses some thousands more, and then the host's call stack is exhausted. */
const MOST_NESTED = 2_000;
const parseNative = JSON.parse;

function installJson() {
  const { parse } = {
    parse(text, reviver) {
      const json = `${text}`;
      if (nesting(json) > MOST_NESTED) throw new RangeError(`JSON.parse: the text is nested more than ${MOST_NESTED} deep`);
      return parseNative(json, reviver);
    },
  };
  define(JSON, { parse });
}

/** Returns how a value is shown in the log. */
function shown(value) {
  if (typeof value === "string") return value;
  if (isError(value)) return explained(value);
  if (typeof value !== "object" || value === null) return typeof value === "bigint" ? `${value}n` : String(value);
  try {
    return JSON.stringify(value, plain) ?? String(value);
  } catch {
    return described(value);
  }
}

/** Replaces what JSON has not, or shows at length. */
function plain(_key, value) {
  if (typeof value === "bigint") return `${value}n`;
  return ArrayBuffer.isView(value) && !(value instanceof DataView) ? Array.from(value) : value;
}

function writing(level) {
  return (...values) => {
    for (const line of values.map(shown).join(" ").split("\n")) log(level, line);
  };
}

function installConsole() {
  const console = {};
  const levels = { debug: DEBUG, log: INFO, info: INFO, warn: WARN, error: ERROR };
  for (const [name, level] of Object.entries(levels)) define(console, { [name]: named(name, writing(level)) });
  define(globalThis, { console });
}

/** Makes UTF-8 of texts. */
class TextEncoder {
  get encoding() {
    return "utf-8";
  }

  encode(text = "") {
    return packedTexts([String(text).toWellFormed()])[1];
  }
}

/** Makes texts of UTF-8. Bytes that are no UTF-8 are an error, also without `fatal`. */
class TextDecoder {
  constructor(encoding = "utf-8", { ignoreBOM = false } = {}) {
    if (!/^\s*utf-?8\s*$/i.test(encoding)) throw new RangeError(`there is no encoding but utf-8: ${encoding}`);
    this.ignoreBOM = Boolean(ignoreBOM);
  }

  get encoding() {
    return "utf-8";
  }

  get fatal() {
    return true;
  }

  decode(bytes = new Uint8Array(0), { stream = false } = {}) {
    if (stream) throw new Refused("`TextDecoder`: pieces of texts are not decoded; decode the whole");
    const view = ArrayBuffer.isView(bytes) ? new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength) : new Uint8Array(bytes);
    const text = decoded(view);
    if (text === null) throw new TypeError("the bytes are no UTF-8");
    return text.startsWith("\uFEFF") && !this.ignoreBOM ? text.slice(1) : text;
  }
}

/** Makes what an object has unchangeable. More may be added to it. */
function lock(object) {
  for (const key of Reflect.ownKeys(object)) {
    // Arrays get slow if the length of their prototype is fixed, which nothing depends on.
    if (key === "length") continue;
    const found = Object.getOwnPropertyDescriptor(object, key);
    const fixed = "value" in found ? { writable: false, configurable: false } : { configurable: false };
    Object.defineProperty(object, key, fixed);
  }
}

/**
 * Keeps an author's code from changing what the library relies on: answers would be others, and
 * nothing would tell. Whoever tries gets a TypeError.
 */
function installLocks() {
  const { prototype: list } = Array, { prototype: map } = Map;
  const views = Object.getPrototypeOf(Uint8Array);
  const iterators = [list[Symbol.iterator].call([]), new Map().entries()].map(Object.getPrototypeOf);
  for (const object of [list, map, views.prototype, ...iterators, Array, Map, Number, Object, views]) lock(object);
  // A property with the name of an index would be looked up, and set, for each array that has none there.
  Object.preventExtensions(list);
  Object.preventExtensions(Object.prototype);
  const globals = [
    Array, ArrayBuffer, BigInt, BigInt64Array, DateOfArguments, Float32Array, Float64Array, Int32Array, Map, Number, Object,
    Uint8Array, Uint32Array,
  ];
  for (const { name } of globals) Object.defineProperty(globalThis, name, { writable: false, configurable: false });
}

installDate();
installRefusals();
installJson();
installConsole();
define(globalThis, { TextEncoder, TextDecoder });
installLocks();
