// Makes and calls functions when the component is built, so that all others write to fewer pages of
// memory: QuickJS makes its own functions and the names of properties when they are first used.

const ROUNDS = 2;
const CODE = `
import { fn, types as t } from "wafer";
const inputs = { a: t.float64, b: t.nullable(t.int64), c: t.utf8, d: t.timestamp, e: t.bool };
const outputs = { a: t.float64.doc("The first."), b: t.nullable(t.int64), c: t.nullable(t.utf8), d: t.timestamp, e: t.bool };
const out = (row) => ({ ...row, a: Math.sqrt(row.a) });
export const one = fn({ doc: "Returns a row.", inputs, outputs }, out);
export const some = fn({ inputs, outputs, filter: true, init: (assets, { name }) => name },
  (row, name) => (row.b === null ? null : { ...row, c: name ?? row.c.toUpperCase() }));
export const many = fn({ inputs, outputs, many: true }, function* (row) { yield out(row); yield row; });
export const all = fn({ inputs, outputs, columns: true }, ({ columns }) => ({ ...columns, b: [1n, null] }));
export default fn({ inputs, outputs }, (row) => { throw new Error("rehearsal"); });
`;
const FUNCTIONS = ["one", "some", "many", "all", "default"];

/** Runs each kind of function as the host would. */
export function rehearseWith({ load, init, describe, call }) {
  const code = new TextEncoder().encode(CODE);
  for (let round = 0; round < ROUNDS; round++) {
    for (const name of FUNCTIONS) {
      load("javascript", code.slice().buffer, true);
      const file = `wafer:${name}-${round}.js`;
      const error = init([["javascript_file", file], ["javascript_function", name]]);
      if (error !== null) throw new Error(error);
      describe();
      const answer = call(2, batch());
      const failed = name === "default" ? 2 : 0;
      if (typeof answer === "string" || answer[3].length !== failed) throw new Error(`the rehearsal of ${name} failed: ${answer}`);
    }
  }
}

/** Returns columns as the host passes them. */
function batch() {
  const two = (array) => array.buffer;
  return [
    [2, null, two(Float64Array.of(1, 2))],
    [1, two(Uint8Array.of(1)), two(BigInt64Array.of(1n, 0n))],
    [4, null, two(Int32Array.of(0, 1, 2)), two(Uint8Array.of(97, 98))],
    [6, null, two(BigInt64Array.of(0n, 1n))],
    [0, null, two(Uint8Array.of(1))],
  ];
}
