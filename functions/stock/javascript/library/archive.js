// Zip archives of modules: entries that are stored or deflated, in one file of less than 4 GiB.
// https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT, https://www.rfc-editor.org/rfc/rfc1951

import { Refused } from "wafer";
import { decoded } from "wafer:native";

const LOCAL = 0x04034b50, CENTRAL = 0x02014b50, END = 0x06054b50;
const END_BYTES = 22, MOST_COMMENT = 0xffff;
const STORED = 0, DEFLATED = 8, ENCRYPTED = 1;
const MOST_FILES = 20_000, MOST_BYTES = 256 << 20;

/** Returns whether bytes begin as an archive does. */
export function isArchive(bytes) {
  return bytes.length > 4 && view(bytes).getUint32(0, true) === LOCAL;
}

/** Returns the files of an archive, by path. */
export function unpacked(bytes) {
  try {
    return filesOf(bytes);
  } catch (error) {
    if (error instanceof Refused) throw error;
    throw new Refused(`the archive of the code cannot be read: ${error.message}`);
  }
}

function view(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function filesOf(bytes) {
  const all = view(bytes);
  const end = endOf(all);
  const count = all.getUint16(end + 10, true);
  if (count > MOST_FILES) throw new Refused(`the code has ${count} files; at most ${MOST_FILES}`);
  const files = new Map();
  let at = all.getUint32(end + 16, true), total = 0;
  for (let entry = 0; entry < count; entry++) {
    if (all.getUint32(at, true) !== CENTRAL) throw new Error(`entry ${entry} is not where it should be`);
    const size = all.getUint32(at + 24, true);
    total += size;
    if (total > MOST_BYTES) throw new Refused(`the code has more than ${MOST_BYTES >> 20} MiB`);
    const nameLength = all.getUint16(at + 28, true);
    const name = decoded(bytes.subarray(at + 46, at + 46 + nameLength));
    if (name === null) throw new Error(`the name of entry ${entry} is not text in UTF-8`);
    if (files.has(name)) throw new Error(`\`${name}\` is there twice`);
    if (!name.endsWith("/")) files.set(name, contentOf(bytes, all, at, size, name));
    at += 46 + nameLength + all.getUint16(at + 30, true) + all.getUint16(at + 32, true);
  }
  return files;
}

function endOf(all) {
  const least = Math.max(0, all.byteLength - END_BYTES - MOST_COMMENT);
  for (let at = all.byteLength - END_BYTES; at >= least; at--) {
    if (all.getUint32(at, true) === END) return at;
  }
  throw new Error("its end is missing");
}

function contentOf(bytes, all, at, size, name) {
  if (all.getUint16(at + 8, true) & ENCRYPTED) throw new Error(`\`${name}\` is encrypted`);
  const method = all.getUint16(at + 10, true), packed = all.getUint32(at + 20, true);
  const local = all.getUint32(at + 42, true);
  if (all.getUint32(local, true) !== LOCAL) throw new Error(`\`${name}\` is not where it should be`);
  const start = local + 30 + all.getUint16(local + 26, true) + all.getUint16(local + 28, true);
  const content = bytes.subarray(start, start + packed);
  if (content.length !== packed) throw new Error(`the end of \`${name}\` is missing`);
  if (method !== STORED && method !== DEFLATED) throw new Error(`\`${name}\` is compressed by method ${method}, and has to be stored or deflated`);
  const made = method === STORED ? content.slice() : inflated(content, size);
  if (made.length !== size || checksum(made) !== all.getUint32(at + 16, true)) throw new Error(`\`${name}\` is damaged`);
  return made;
}

const CHECKSUMS = Uint32Array.from({ length: 256 }, (_, byte) => {
  for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
  return byte;
});

function checksum(bytes) {
  let sum = 0xffffffff;
  for (let i = 0; i < bytes.length; i++) sum = CHECKSUMS[(sum ^ bytes[i]) & 255] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}

// Lengths and distances have a base and further bits: RFC 1951, section 3.2.5.
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const LENGTHS = [...based(3, LENGTH_BITS.slice(0, 28)), 258];
const DISTANCE_BITS = Array.from({ length: 30 }, (_, code) => Math.max(0, (code >> 1) - 1));
const DISTANCES = based(1, DISTANCE_BITS);
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
const LONGEST = 15;

function based(first, bits) {
  let next = first;
  return bits.map((count) => {
    const base = next;
    next += 1 << count;
    return base;
  });
}

/** Returns the codes of a Huffman tree: how many there are of each length, and their symbols. */
function tree(lengths) {
  const counts = new Uint16Array(LONGEST + 1), starts = new Uint16Array(LONGEST + 2);
  for (const length of lengths) counts[length]++;
  counts[0] = 0;
  for (let length = 1; length <= LONGEST; length++) starts[length + 1] = starts[length] + counts[length];
  const symbols = new Uint16Array(lengths.length);
  lengths.forEach((length, symbol) => {
    if (length !== 0) symbols[starts[length]++] = symbol;
  });
  return { counts, symbols };
}

const FIXED = tree(Array.from({ length: 288 }, (_, i) => (i < 144 ? 8 : i < 256 ? 9 : i < 280 ? 7 : 8)));
const FIXED_DISTANCES = tree(new Array(30).fill(5));

class Bits {
  constructor(bytes) {
    this.bytes = bytes;
    this.at = 0;
    this.bit = 0;
  }

  read(count) {
    let value = 0;
    for (let i = 0; i < count; i++) value |= this.one() << i;
    return value;
  }

  one() {
    if (this.at >= this.bytes.length) throw new Error("its end is missing");
    const value = (this.bytes[this.at] >> this.bit) & 1;
    this.bit = (this.bit + 1) & 7;
    if (this.bit === 0) this.at++;
    return value;
  }

  symbol({ counts, symbols }) {
    let code = 0, first = 0, index = 0;
    for (let length = 1; length <= LONGEST; length++) {
      code |= this.one();
      const count = counts[length];
      if (code - first < count) return symbols[index + code - first];
      index += count;
      first = (first + count) << 1;
      code <<= 1;
    }
    throw new Error("it has a code that stands for nothing");
  }

  /** Skips to the next byte. */
  align() {
    if (this.bit !== 0) this.at++;
    this.bit = 0;
  }
}

/** Returns what was deflated, of a size. */
function inflated(packed, size) {
  const bits = new Bits(packed), made = new Uint8Array(size);
  let at = 0;
  for (let isLast = 0; isLast === 0;) {
    isLast = bits.one();
    const kind = bits.read(2);
    if (kind === 0) at = copyStored(bits, made, at);
    else if (kind === 1) at = copyCoded(bits, made, at, FIXED, FIXED_DISTANCES);
    else if (kind === 2) at = copyCoded(bits, made, at, ...trees(bits));
    else throw new Error("it has a block of an unknown kind");
  }
  return made.subarray(0, at);
}

function copyStored(bits, made, at) {
  bits.align();
  const length = bits.read(16);
  bits.read(16);
  const content = bits.bytes.subarray(bits.at, bits.at + length);
  if (content.length !== length || at + length > made.length) throw new Error("it is longer than it says");
  made.set(content, at);
  bits.at += length;
  return at + length;
}

function trees(bits) {
  const literals = bits.read(5) + 257, distances = bits.read(5) + 1, codes = bits.read(4) + 4;
  const lengths = new Array(19).fill(0);
  for (let i = 0; i < codes; i++) lengths[ORDER[i]] = bits.read(3);
  const all = codeLengths(bits, tree(lengths), literals + distances);
  return [tree(all.slice(0, literals)), tree(all.slice(literals))];
}

function codeLengths(bits, coded, count) {
  const lengths = [];
  while (lengths.length < count) {
    const symbol = bits.symbol(coded);
    if (symbol < 16) lengths.push(symbol);
    else if (symbol === 16) repeat(lengths, lengths.at(-1) ?? 0, bits.read(2) + 3);
    else repeat(lengths, 0, symbol === 17 ? bits.read(3) + 3 : bits.read(7) + 11);
  }
  if (lengths.length !== count) throw new Error("it has too many lengths of codes");
  return lengths;
}

function repeat(lengths, length, times) {
  for (let i = 0; i < times; i++) lengths.push(length);
}

function copyCoded(bits, made, at, literals, distances) {
  for (;;) {
    const symbol = bits.symbol(literals);
    if (symbol === 256) return at;
    if (symbol < 256) {
      if (at >= made.length) throw new Error("it is longer than it says");
      made[at++] = symbol;
      continue;
    }
    if (symbol > 285) throw new Error("it has a length that does not exist");
    const length = LENGTHS[symbol - 257] + bits.read(LENGTH_BITS[symbol - 257]);
    const code = bits.symbol(distances);
    if (code > 29) throw new Error("it has a distance that does not exist");
    const distance = DISTANCES[code] + bits.read(DISTANCE_BITS[code]);
    if (distance > at || at + length > made.length) throw new Error("it refers to what is not there");
    for (let i = 0; i < length; i++, at++) made[at] = made[at - distance];
  }
}
