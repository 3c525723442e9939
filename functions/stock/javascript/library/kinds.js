// The types of columns: how values are read from whole columns, and written to them.
//
// Columns are packed at once. Only if a value does not fit, each is looked at, to find the rows
// that are to blame.

import { described } from "wafer";
import { located } from "wafer:errors";
import { packed, packedBits, packedTexts, texts, unpackedBits, withoutNulls } from "wafer:native";

/** Returns the milliseconds of a `Date`, whatever methods it has of its own. */
const millisOf = Function.prototype.call.bind(Date.prototype.getTime);

const DAY = 86_400_000;
const MOST_BYTES = 2 ** 31 - 1;

// How `packed` packs numbers.
const PACK_BOOLEAN = 0, PACK_BIG = 1, PACK_DOUBLE = 2, PACK_FLOAT = 3, PACK_SAFE = 4, PACK_INT32 = 5;

/** The values of a type. */
class Kind {
  constructor(wanted, zero) {
    /** What its values are, for messages. */
    this.wanted = wanted;
    /** What stands in rows that have no value. */
    this.zero = zero;
  }

  /** Returns the values of a column by row. `wrong` is told those that JavaScript cannot have. */
  read(_rows, _buffers, _wrong) {
    throw new Error("not a column");
  }

  /** Returns a column as a function of whole columns gets it. */
  view(rows, buffers, wrong) {
    return this.read(rows, buffers, wrong);
  }

  /** Returns the buffers of values, or null if one of them does not fit. */
  pack(_values) {
    throw new Error("not a column");
  }

  /** Returns why a value does not fit, or null. */
  wrong(value) {
    return this.fits(value) ? null : `found ${described(value)}, wanted ${this.wanted}`;
  }

  /** The typed array that a function of whole columns may return, if there is one. */
  get array() {
    return null;
  }

  /** Returns the buffers of such a typed array, or null if it does not fit. */
  packView(view) {
    return [view];
  }
}

/** Numbers of one width in memory. */
class Numbers extends Kind {
  constructor(wanted, zero, array, how) {
    super(wanted, zero);
    this.how = how;
    this.made = array;
  }

  get array() {
    return this.made;
  }

  read(_rows, [buffer]) {
    return new this.made(buffer);
  }

  pack(values) {
    const made = packed(this.how, values);
    return typeof made === "number" ? null : [made];
  }

  fits(value) {
    return typeof packed(this.how, [value]) !== "number";
  }
}

class Float32 extends Numbers {
  wrong(value) {
    if (typeof value === "number" && !this.fits(value)) return `found ${value}, which does not fit into 32 bits`;
    return super.wrong(value);
  }
}

class Big extends Numbers {
  wrong(value) {
    if (typeof value === "bigint" && !this.fits(value)) return `found ${described(value)}, which does not fit into 64 bits`;
    return super.wrong(value);
  }
}

/** Integers that are numbers. Those from 2^53 on would be others, so they are refused. */
class Safe extends Numbers {
  constructor() {
    super("an integer below 2^53 (a number)", 0, Float64Array, PACK_SAFE);
  }

  read(rows, [buffer], wrong) {
    const words = new Int32Array(buffer);
    const values = new Float64Array(rows);
    for (let row = 0; row < rows; row++) {
      const value = words[2 * row + 1] * 2 ** 32 + (words[2 * row] >>> 0);
      values[row] = value;
      if (!Number.isSafeInteger(value)) {
        wrong(row, `${new BigInt64Array(buffer, 8 * row, 1)[0]} is beyond 2^53, where numbers have gaps: use t.int64`);
        values[row] = 0;
      }
    }
    return values;
  }

  packView(view) {
    return this.pack(Array.from(view));
  }
}

class Booleans extends Kind {
  constructor() {
    super("true or false", false);
  }

  read(rows, [bits]) {
    return Array.from(unpackedBits(bits, rows), (bit) => bit === 1);
  }

  pack(values) {
    const made = packed(PACK_BOOLEAN, values);
    return typeof made === "number" ? null : [packedBits(made)];
  }

  fits(value) {
    return typeof value === "boolean";
  }
}

class Texts extends Kind {
  constructor() {
    super("a string", "");
  }

  read(_rows, [offsets, bytes]) {
    return texts(offsets, bytes);
  }

  pack(values) {
    const made = packedTexts(values);
    return typeof made === "number" ? null : made;
  }

  fits(value) {
    return typeof value === "string" && value.isWellFormed();
  }

  wrong(value) {
    if (typeof value === "string" && !value.isWellFormed()) return `found ${described(value)}, which has half of a surrogate pair`;
    return super.wrong(value);
  }
}

/** Returns offsets of parts one after the other, or null if they are too long together. */
function offsetsOf(parts) {
  const offsets = new Int32Array(parts.length + 1);
  let end = 0;
  for (let i = 0; i < parts.length; i++) {
    end += parts[i].length;
    if (end > MOST_BYTES) return null;
    offsets[i + 1] = end;
  }
  return offsets;
}

class Bytes extends Kind {
  constructor() {
    super("a Uint8Array", new Uint8Array(0));
  }

  read(rows, [buffer, bytes]) {
    const offsets = new Int32Array(buffer), all = new Uint8Array(bytes);
    return Array.from({ length: rows }, (_, row) => all.slice(offsets[row], offsets[row + 1]));
  }

  pack(values) {
    if (!values.every(this.fits)) return null;
    const offsets = offsetsOf(values);
    if (offsets === null) return null;
    const all = new Uint8Array(offsets[values.length]);
    for (let i = 0; i < values.length; i++) all.set(values[i], offsets[i]);
    return [offsets, all];
  }

  fits(value) {
    return value instanceof Uint8Array;
  }
}

/** Returns whether a value is a `Date` that is a time. */
function isTime(value) {
  return value instanceof Date && !Number.isNaN(millisOf(value));
}

/** Times as `Date`s, which have whole milliseconds. */
class DateTimes extends Kind {
  constructor() {
    super("a Date", new Date(0));
  }

  read(rows, [buffer], wrong) {
    const micros = new BigInt64Array(buffer);
    return Array.from({ length: rows }, (_, row) => this.time(micros[row], row, wrong));
  }

  time(micros, row, wrong) {
    const millis = micros / 1000n;
    const time = new Date(Number(millis));
    if (millis * 1000n !== micros) wrong(row, `${micros} µs since 1970 is no whole millisecond, which a Date has: use t.timestamp`);
    else if (!isTime(time)) wrong(row, `${micros} µs since 1970 is further away than a Date can be: use t.timestamp`);
    else return time;
    return new Date(0);
  }

  pack(values) {
    if (!values.every(isTime)) return null;
    return [BigInt64Array.from(values, (time) => BigInt(millisOf(time)) * 1000n)];
  }

  fits(value) {
    return isTime(value);
  }
}

/** Days as `Date`s at 00:00 UTC. Whole columns have days since 1970. */
class Days extends Kind {
  constructor() {
    super("a Date at 00:00 UTC", new Date(0));
  }

  get array() {
    return Int32Array;
  }

  view(_rows, [buffer]) {
    return new Int32Array(buffer);
  }

  read(rows, buffers, wrong) {
    const days = this.view(rows, buffers);
    return Array.from({ length: rows }, (_, row) => this.day(days[row], row, wrong));
  }

  day(days, row, wrong) {
    const day = new Date(days * DAY);
    if (isTime(day)) return day;
    wrong(row, `${days} days since 1970 is further away than a Date can be`);
    return new Date(0);
  }

  pack(values) {
    const made = packed(PACK_INT32, values.map((value) => (value instanceof Date ? millisOf(value) / DAY : NaN)));
    return typeof made === "number" ? null : [made];
  }

  fits(value) {
    return isTime(value) && millisOf(value) % DAY === 0;
  }
}

/** Lists of values of another type. */
class Lists extends Kind {
  constructor(item, wanted) {
    super(wanted, []);
    this.item = item;
  }

  read(rows, [buffer, ...buffers], wrong) {
    const offsets = new Int32Array(buffer);
    let row = 0;
    // Items are told in their order, as `Safe.read` does.
    const rowOf = (index) => {
      while (offsets[row + 1] <= index) row++;
      return row;
    };
    const items = Array.from(this.item.read(offsets[rows], buffers, (index, message) => wrong(rowOf(index), message)));
    return Array.from({ length: rows }, (_, row) => items.slice(offsets[row], offsets[row + 1]));
  }

  pack(values) {
    if (!values.every(isList)) return null;
    const offsets = offsetsOf(values);
    if (offsets === null) return null;
    const items = [];
    for (const list of values) for (let i = 0; i < list.length; i++) items.push(list[i]);
    const made = this.item.pack(items);
    return made === null ? null : [offsets, ...made];
  }

  fits(value) {
    return isList(value);
  }

  wrong(value) {
    return super.wrong(value) ?? wrongItem(this.item, value);
  }
}

function isList(value) {
  return Array.isArray(value) || (ArrayBuffer.isView(value) && !(value instanceof DataView));
}

function wrongItem(kind, list) {
  for (let i = 0; i < list.length; i++) {
    const message = kind.wrong(list[i]);
    if (message !== null) return `item ${i}: ${message}`;
  }
  return null;
}

/** Lists of a fixed number of 32-bit numbers. */
class Vectors extends Kind {
  constructor(dimension) {
    super(`a Float32Array or an array of ${dimension} numbers`, new Float32Array(dimension));
    this.dimension = dimension;
  }

  get array() {
    return Float32Array;
  }

  view(_rows, [buffer]) {
    return new Float32Array(buffer);
  }

  read(rows, buffers) {
    const all = this.view(rows, buffers), width = this.dimension;
    return Array.from({ length: rows }, (_, row) => all.slice(row * width, (row + 1) * width));
  }

  pack(values) {
    const items = [];
    for (const value of values) {
      if (!this.fits(value)) return null;
      for (let i = 0; i < this.dimension; i++) items.push(value[i]);
    }
    const made = packed(PACK_FLOAT, items);
    return typeof made === "number" ? null : this.packView(made);
  }

  packView(view) {
    return [view, this.dimension];
  }

  fits(value) {
    return isList(value) && value.length === this.dimension;
  }

  wrong(value) {
    return super.wrong(value) ?? wrongItem(FLOAT32_KIND, value);
  }
}

const FLOAT32_KIND = new Float32("a number", 0, Float32Array, PACK_FLOAT);
const KINDS = {
  bool: new Booleans(),
  int64: new Big("a bigint, such as 3n (t.safeInt takes numbers)", 0n, BigInt64Array, PACK_BIG),
  safeInt: new Safe(),
  float64: new Numbers("a number", 0, Float64Array, PACK_DOUBLE),
  float32: FLOAT32_KIND,
  utf8: new Texts(),
  binary: new Bytes(),
  timestamp: new Big("a bigint of microseconds since 1970 (t.dateTime takes a Date)", 0n, BigInt64Array, PACK_BIG),
  dateTime: new DateTimes(),
  date: new Days(),
};

/** Returns how the values of a type are read and written. */
export function kindOf(type) {
  if (type.dimension > 0) return new Vectors(type.dimension);
  if (type.item !== null) return new Lists(KINDS[type.item.name], `an array, ${type}`);
  return KINDS[type.name];
}

/** Returns which values of a column are there, as bytes of 0 and 1, or null if all are. */
export function validity(column, rows) {
  return column[1] === null ? null : unpackedBits(column[1], rows);
}

/** Returns a column of values. `wrong` is told the index of each that cannot be in it. */
export function writeColumn(field, kind, values, wrong) {
  const { type } = field;
  const given = type.isNullable ? values.slice() : values;
  const valid = type.isNullable ? withoutNulls(given, kind.zero) : null;
  const buffers = packedIfReadable(kind, given) ?? packMended(field, kind, given, wrong);
  return [type.tag, valid === null ? null : packedBits(valid), ...buffers];
}

/** Packs values. An error of one, such as that of a getter in a list, is one that does not fit: null. */
function packedIfReadable(kind, values) {
  try {
    return kind.pack(values);
  } catch {
    return null;
  }
}

/** Returns why a value does not fit or cannot be read, or null. */
function reasonOf(field, kind, value) {
  try {
    const message = kind.wrong(value);
    if (message !== null) return `${message}${hint(field, value)}`;
    // Some fail when they are packed only, such as a `Uint8Array` that is detached.
    kind.pack([value]);
    return null;
  } catch (error) {
    return located(error);
  }
}

/** Packs values of which some do not fit, without those. */
function packMended(field, kind, values, wrong) {
  const fitting = values.map((value, index) => {
    const message = reasonOf(field, kind, value);
    if (message === null) return value;
    wrong(index, `field \`${field.name}\`: ${message}`);
    return kind.zero;
  });
  const buffers = kind.pack(fitting);
  if (buffers === null) throw new Error(`the values of field \`${field.name}\` are longer than 2 GiB together`);
  return buffers;
}

function hint(field, value) {
  if (value === undefined && field.type.isNullable) return " or null";
  if (value === null) return "; declare t.nullable(…) if it may be missing";
  return "";
}

