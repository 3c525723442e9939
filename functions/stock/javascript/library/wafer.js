// What an author of a JavaScript function imports. It has no other modules, so that an author's
// tests can import it outside of the sandbox.

/** A function that cannot be one. The message says why, and what to write instead. */
export class Refused extends Error {
  get name() {
    return "Refused";
  }
}

// The cases of `data-type` in the contract.
export const BOOLEAN = 0, INT64 = 1, FLOAT64 = 2, FLOAT32 = 3, UTF8 = 4, BINARY = 5, TIMESTAMP = 6,
  DATE = 7, VECTOR = 8, LIST_INT64 = 9, LIST_FLOAT64 = 10, LIST_UTF8 = 11;

const LISTS = { int64: LIST_INT64, safeInt: LIST_INT64, float64: LIST_FLOAT64, utf8: LIST_UTF8 };

/** A type of columns. It never changes: what seems to change it returns another one. */
class Type {
  constructor(name, tag, more = {}) {
    /** What an author writes for it, without `t.`. */
    this.name = name;
    /** The case of the contract's `data-type`. */
    this.tag = tag;
    /** How many numbers a vector has. */
    this.dimension = 0;
    /** The type of the items of a list. */
    this.item = null;
    this.isNullable = false;
    this.description = "";
    Object.assign(this, more);
    Object.freeze(this);
  }

  /** Returns the type with a description of the column, for the catalog. */
  doc(description) {
    if (typeof description !== "string") throw new Refused(`a description is a text, and not ${described(description)}`);
    return new Type(this.name, this.tag, { ...this, description });
  }

  toString() {
    return this.isNullable ? `t.nullable(t.${this.name})` : `t.${this.name}`;
  }
}

function nullable(type) {
  if (!(type instanceof Type)) throw new Refused(`t.nullable(…) takes a type, such as t.float64, and not ${described(type)}`);
  return new Type(type.name, type.tag, { ...type, isNullable: true });
}

function list(item) {
  const tag = item instanceof Type && !item.isNullable ? LISTS[item.name] : undefined;
  if (tag === undefined) {
    throw new Refused(
      `t.list(${item instanceof Type ? item : described(item)}) is no type of columns: there are ` +
      "t.list(t.int64), t.list(t.safeInt), t.list(t.float64) and t.list(t.utf8)");
  }
  return new Type(`list(t.${item.name})`, tag, { item });
}

function vector(dimension) {
  if (!Number.isInteger(dimension) || dimension < 1 || dimension >= 2 ** 32) {
    throw new Refused(`a vector cannot have the dimension ${described(dimension)}: it is at least 1`);
  }
  return new Type(`vector(${dimension})`, VECTOR, { dimension });
}

/** The types of columns. */
export const types = Object.freeze({
  bool: new Type("bool", BOOLEAN),
  int64: new Type("int64", INT64),
  safeInt: new Type("safeInt", INT64),
  float64: new Type("float64", FLOAT64),
  float32: new Type("float32", FLOAT32),
  utf8: new Type("utf8", UTF8),
  binary: new Type("binary", BINARY),
  timestamp: new Type("timestamp", TIMESTAMP),
  dateTime: new Type("dateTime", TIMESTAMP),
  date: new Type("date", DATE),
  list,
  vector,
  nullable,
});

/** Where a function or a trainer keeps what was declared of it. */
export const DECLARED = Symbol.for("wafer.declared");

const NAME = /^[A-Za-z_][A-Za-z0-9_]{0,127}$/;

/**
 * Makes a function that Wafer can register. Called by an author's test, it is the function itself.
 */
export function fn(declared, code) {
  const known = ["doc", "inputs", "outputs", "filter", "many", "columns", "init"];
  checkKeys("fn", declared, known);
  const kind = Object.prototype.toString.call(code);
  if (kind === "[object AsyncFunction]" || kind === "[object AsyncGeneratorFunction]") {
    throw new Refused("a function cannot be `async`: there is nothing to wait for");
  }
  if (typeof code !== "function") {
    throw new Refused(`the second argument of fn(…) is ${described(code)}, and has to be a function of a row`);
  }
  const spec = {
    kind: "function",
    doc: textOf("doc", declared.doc),
    inputs: fieldsOf("inputs", declared.inputs),
    outputs: fieldsOf("outputs", declared.outputs),
    filter: flagOf("filter", declared.filter),
    many: flagOf("many", declared.many),
    columns: flagOf("columns", declared.columns),
    init: declared.init ?? null,
    code,
  };
  const forms = ["filter", "many", "columns"].filter((form) => spec[form]);
  if (forms.length > 1) throw new Refused(`a function cannot be \`${forms[0]}\` and \`${forms[1]}\` at once`);
  if (spec.init !== null && typeof spec.init !== "function") {
    throw new Refused(`\`init\` is ${described(spec.init)}, and has to be a function of assets and parameters`);
  }
  if (spec.init === null && code.length > 1) {
    throw new Refused(
      `the function has ${code.length} parameters, and is given ${spec.columns ? "columns" : "a row"}; ` +
      "a second one needs `init`");
  }
  return declaring((...given) => code(...given), spec);
}

/** Makes a trainer of a class that Wafer can train models with. */
export function trainer(declared, code) {
  checkKeys("trainer", declared, ["doc", "rows", "columns"]);
  const methods = typeof code === "function" ? code.prototype : undefined;
  if (typeof methods?.feed !== "function" || typeof methods?.finish !== "function") {
    throw new Refused("the second argument of trainer(…) has to be a class with the methods `feed(rows, role)` and `finish()`");
  }
  const spec = {
    kind: "trainer",
    doc: textOf("doc", declared.doc),
    inputs: fieldsOf("rows", declared.rows),
    columns: flagOf("columns", declared.columns),
    code,
  };
  return declaring(class extends code {}, spec);
}

function declaring(made, spec) {
  Object.defineProperty(made, "name", { value: spec.code.name });
  Object.defineProperty(made, DECLARED, { value: Object.freeze(spec) });
  return made;
}

function checkKeys(what, declared, known) {
  if (typeof declared !== "object" || declared === null) {
    throw new Refused(`the first argument of ${what}(…) is ${described(declared)}, and has to be an object that declares columns`);
  }
  for (const key of Object.keys(declared)) {
    if (!known.includes(key)) throw new Refused(`${what}(…) does not know \`${key}\`; it knows ${known.map((k) => `\`${k}\``).join(", ")}`);
  }
}

function textOf(key, value) {
  if (value === undefined) return "";
  if (typeof value !== "string") throw new Refused(`\`${key}\` is ${described(value)}, and has to be a text`);
  return value;
}

function flagOf(key, value) {
  if (value === undefined) return false;
  if (typeof value !== "boolean") throw new Refused(`\`${key}\` is ${described(value)}, and has to be true or false`);
  return value;
}

function fieldsOf(key, columns) {
  if (typeof columns !== "object" || columns === null || Array.isArray(columns)) {
    throw new Refused(`\`${key}\` is ${described(columns)}, and has to be an object of columns, such as { km: t.float64 }`);
  }
  const fields = Object.entries(columns).map(([name, type]) => {
    if (!NAME.test(name) || name === "__proto__") {
      throw new Refused(`\`${key}\` has the column ${described(name)}: a name has letters, digits and \`_\`, at most 128`);
    }
    if (!(type instanceof Type)) {
      throw new Refused(
        `column \`${name}\` of \`${key}\` is ${described(type)}, and has to be a type: t.bool, t.int64, t.safeInt, ` +
        "t.float64, t.float32, t.utf8, t.binary, t.timestamp, t.dateTime, t.date, t.list(…), t.vector(n), " +
        "each in t.nullable(…) if values may be missing");
    }
    return Object.freeze({ name, type });
  });
  if (fields.length === 0) throw new Refused(`\`${key}\` has no columns`);
  return Object.freeze(fields);
}

/** Returns the type of a value and the value, cut. */
export function described(value) {
  if (value === null || value === undefined) return String(value);
  if (typeof value === "function") return ofFunction(value);
  if (typeof value === "object") return ofObject(value);
  const text = typeof value === "string" ? JSON.stringify(value) : String(value) + (typeof value === "bigint" ? "n" : "");
  return `${typeof value} ${cut(text)}`;
}

function ofFunction(value) {
  try {
    return `function ${value.name}`.trim();
  } catch {
    return "function";
  }
}

function ofObject(value) {
  try {
    const made = value.constructor?.name;
    const name = made === undefined || made === "Object" ? "object" : made;
    if (value instanceof Date) return `Date ${isNaN(value) ? "that is invalid" : value.toISOString()}`;
    if (ArrayBuffer.isView(value) || Array.isArray(value)) return `${name} of ${value.length ?? value.byteLength}`;
    return `${name} ${cut(JSON.stringify(value) ?? "")}`.trim();
  } catch {
    return "object";
  }
}

function cut(text) {
  return text.length > 60 ? `${text.slice(0, 59)}…` : text;
}
