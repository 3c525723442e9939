// Calling a function on a batch of rows.
//
// The loop over rows is written once for each function, with the names of its columns, and then
// compiled. Columns are made indexable before it, and columns again after it.

import { described, Refused } from "wafer";
import { located } from "wafer:errors";
import { kindOf, validity, writeColumn } from "wafer:kinds";
import { evaluated, packedBits } from "wafer:native";

/** How many rows are returned for one. */
const FORMS = { one: 0, filter: 1, many: 2 };

/** Returns what calls a function of rows on a batch. `failed` is told each error. */
export function rowsCall(spec, state, failed) {
  const inputs = withKinds(spec.inputs), outputs = withKinds(spec.outputs);
  const form = spec.many ? FORMS.many : spec.filter ? FORMS.filter : FORMS.one;
  const loop = evaluated(loopSource(inputs, outputs, form));
  const zeros = outputs.map(({ kind }) => kind.zero);
  const failure = (errors, row, error) => {
    failed(error);
    errors.set(row, located(error));
  };
  return (rows, batch) => {
    const errors = new Map();
    const { columns, valids } = read(inputs, rows, batch, errors);
    const made = outputs.map(() => []);
    const sources = form === FORMS.one ? null : [];
    loop(rows, spec.code, state, columns, valids, errors, failure, made, sources, zeros, wrongAnswer);
    return answer(outputs, rows, made, sources, errors);
  };
}

function withKinds(fields) {
  return fields.map((field) => ({ field, kind: kindOf(field.type) }));
}

/** Returns the columns of a batch, and notes the rows that have a value that cannot be given. */
function read(inputs, rows, batch, errors) {
  const columns = [], valids = [];
  inputs.forEach(({ field, kind }, index) => {
    const [tag, , ...buffers] = batch[index];
    if (tag !== field.type.tag) throw new Refused(`column \`${field.name}\` is of another type than ${field.type}`);
    const valid = validity(batch[index], rows);
    const wrong = (row, message) => {
      if (valid === null || valid[row] === 1) note(errors, row, `column \`${field.name}\`: ${message}`);
    };
    columns.push(kind.read(rows, buffers, wrong));
    valids.push(valid);
    if (!field.type.isNullable) noteNulls(field, valid, errors);
  });
  return { columns, valids };
}

function note(errors, row, message) {
  if (!errors.has(row)) errors.set(row, message);
}

function noteNulls(field, valid, errors) {
  if (valid === null) return;
  valid.forEach((there, row) => {
    if (there === 0) note(errors, row, `column \`${field.name}\` is null, and may not be`);
  });
}

/** Writes the loop over rows. */
function loopSource(inputs, outputs, form) {
  const value = ({ field }, i) =>
    field.type.isNullable ? `v${i} !== null && v${i}[row] === 0 ? null : c${i}[row]` : `c${i}[row]`;
  const given = inputs.map((input, i) => `${input.field.name}: ${value(input, i)}`).join(", ");
  const each = (write) => outputs.map(({ field }, i) => write(i, field.name)).join("\n");
  const names = (letter, count) => Array.from({ length: count }, (_, i) => `${letter}${i}`).join(", ");
  const push = `if (typeof made !== "object" || made === null) throw wrongAnswer(made, ${form});
${each((i, name) => `const x${i} = made.${name};`)}
${each((i) => `o${i}.push(x${i});`)}`;
  const call = `code({ ${given} }, state)`;
  const bodies = [
    `const made = ${call};
${push}`,
    `const made = ${call};
if (made === null) continue;
${push}
sources.push(row);`,
    `const all = ${call};
if (typeof all !== "object" || all === null || all[Symbol.iterator] === undefined) throw wrongAnswer(all, ${form});
for (const made of all) {
${push}
sources.push(row);
}`,
  ];
  // A row that failed has values that nobody reads, or none.
  const without = form === FORMS.one
    ? each((i) => `o${i}[row] = z${i};`)
    : `sources.length = before;
${each((i) => `o${i}.length = before;`)}`;
  return `"use strict";
(function (rows, code, state, [${names("c", inputs.length)}], [${names("v", inputs.length)}], errors, failure,
    [${names("o", outputs.length)}], sources, [${names("z", outputs.length)}], wrongAnswer) {
  for (let row = 0; row < rows; row++) {
    ${form === FORMS.one ? "" : "const before = sources.length;"}
    try {
      if (errors.size !== 0 && errors.has(row)) { ${without} continue; }
      ${bodies[form]}
    } catch (error) {
      failure(errors, row, error);
      ${without}
    }
  }
})`;
}

/** Returns the error of a row for which the function returned something else than a row. */
function wrongAnswer(made, form) {
  const wanted = [
    "an object with its columns (to leave rows out, declare `filter: true` and return null)",
    "an object with its columns, or null to leave the row out",
    "an array of objects with its columns, or a generator of them",
  ];
  const found = made instanceof Promise ? "a promise, which nothing waits for" : described(made);
  return new Refused(`the function returned ${found}, wanted ${wanted[form]}`);
}

/** Returns the answer of a batch: number of rows, columns, source rows, and rows that failed. */
function answer(outputs, rows, made, sources, errors) {
  for (;;) {
    const wrong = new Map();
    const tell = (index, message) => note(wrong, sources === null ? index : sources[index], message);
    const written = outputs.map(({ field, kind }, i) => writeColumn(field, kind, made[i], tell));
    for (const [row, message] of wrong) note(errors, row, message);
    if (wrong.size === 0 || sources === null) {
      const failed = [...errors].sort(([a], [b]) => a - b);
      return [made[0].length, written, sources === null ? null : Uint32Array.from(sources), failed];
    }
    without(made, sources, wrong);
  }
}

/** Leaves out the answers of rows that failed. */
function without(made, sources, wrong) {
  const kept = sources.map((row) => !wrong.has(row));
  for (const list of [...made, sources]) {
    const rest = list.filter((_, index) => kept[index]);
    list.length = 0;
    for (const value of rest) list.push(value);
  }
}

/** Returns what makes the rows of a batch, all of which have to be readable: for trainers. */
export function rowsReader(fields) {
  const inputs = withKinds(fields);
  return (rows, batch) => {
    const errors = new Map();
    const { columns, valids } = read(inputs, rows, batch, errors);
    refuseErrors(errors);
    return Array.from({ length: rows }, (_, row) => rowOf(inputs, columns, valids, row));
  };
}

function rowOf(inputs, columns, valids, row) {
  const made = {};
  inputs.forEach(({ field }, i) => {
    made[field.name] = valids[i] !== null && valids[i][row] === 0 ? null : columns[i][row];
  });
  return made;
}

function refuseErrors(errors) {
  if (errors.size === 0) return;
  const first = Math.min(...errors.keys());
  throw new Refused(`row ${first} of a chunk: ${errors.get(first)}`);
}

/** Returns what makes whole columns of a batch; it is given the rows that have a wrong value. */
function columnsOf(inputs, rows, batch, errors) {
  const columns = {}, valid = {};
  inputs.forEach(({ field, kind }, index) => {
    const [, , ...buffers] = batch[index];
    const found = validity(batch[index], rows);
    const wrong = (row, message) => {
      if (found === null || found[row] === 1) note(errors, row, `column \`${field.name}\`: ${message}`);
    };
    columns[field.name] = withNulls(kind.view(rows, buffers, wrong), found);
    valid[field.name] = found;
    if (!field.type.isNullable) noteNulls(field, found, errors);
  });
  return { rows, columns, valid };
}

/** Puts null where an array has no value. A typed array cannot have one. */
function withNulls(column, valid) {
  if (valid === null || !Array.isArray(column)) return column;
  return column.map((value, row) => (valid[row] === 1 ? value : null));
}

/** Returns what makes the columns of a batch, all of which have to be readable: for trainers. */
export function columnsReader(fields) {
  const inputs = withKinds(fields);
  return (rows, batch) => {
    const errors = new Map();
    const made = columnsOf(inputs, rows, batch, errors);
    refuseErrors(errors);
    return made;
  };
}

/** Returns what calls a function of whole columns on a batch. */
export function columnsCall(spec, state) {
  const inputs = withKinds(spec.inputs), outputs = withKinds(spec.outputs);
  return (rows, batch) => {
    const errors = new Map();
    const made = spec.code(columnsOf(inputs, rows, batch, errors), state);
    if (typeof made !== "object" || made === null || made instanceof Promise) {
      throw new Refused(`the function returned ${described(made)}, wanted an object with its columns`);
    }
    const written = outputs.map(({ field, kind }) => whole(field, kind, made[field.name], rows, errors));
    return [rows, written, null, [...errors].sort(([a], [b]) => a - b)];
  };
}

/** Writes a column that a function returned whole: an array, a typed array, or one with `valid`. */
function whole(field, kind, column, rows, errors) {
  const where = `column \`${field.name}\``;
  if (column === undefined) throw new Refused(`the function returned no ${where}`);
  const apart = typeof column === "object" && column !== null && !Array.isArray(column) && !ArrayBuffer.isView(column);
  const values = apart ? column.values : column;
  const valid = apart ? validOf(field, column.valid, rows) : null;
  const tell = (row, message) => note(errors, row, message);
  if (Array.isArray(values)) {
    if (apart) throw new Refused(`${where}: \`valid\` is for typed arrays; an array has null where a value is missing`);
    checkLength(where, values.length, rows);
    return writeColumn(field, kind, [...values], tell);
  }
  if (kind.array === null || !(values instanceof kind.array)) {
    const typed = kind.array === null ? "" : ` or a ${kind.array.name}`;
    throw new Refused(`${where} is ${described(values)}, wanted an array${typed} (${field.type})`);
  }
  checkLength(where, values.length / Math.max(field.type.dimension, 1), rows);
  const buffers = kind.packView(values);
  if (buffers !== null) return [field.type.tag, valid === null ? null : packedBits(valid), ...buffers];
  // Some number does not fit: each is looked at, but where none is meant to be.
  const list = Array.from(values, (value, row) => (valid !== null && valid[row] === 0 ? null : value));
  return writeColumn(field, kind, list, tell);
}

function validOf(field, valid, rows) {
  if (valid === null || valid === undefined) return null;
  const where = `\`valid\` of column \`${field.name}\``;
  if (!field.type.isNullable) throw new Refused(`${where}: the column is not nullable; declare t.nullable(…)`);
  if (!(valid instanceof Uint8Array)) throw new Refused(`${where} is ${described(valid)}, wanted a Uint8Array of 0 and 1`);
  checkLength(where, valid.length, rows);
  if (valid.some((there) => there > 1)) throw new Refused(`${where} has another number than 0 and 1`);
  return valid;
}

function checkLength(where, length, rows) {
  if (length !== rows) throw new Refused(`${where} has ${length} values, wanted ${rows}, one for each row`);
}
