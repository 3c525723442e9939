// Trainings, of trainers that the author made of classes.

import { described, Refused } from "wafer";
import { columnsReader, rowsReader } from "wafer:rows";

const ROLES = ["train", "validation"];
/** How many bytes of an artifact the host reads at once. */
const PIECE = 1 << 20;

/** A training that has begun. */
export class Training {
  constructor(spec, [assets, parameters], label) {
    const names = spec.inputs.map(({ name }) => name);
    if (!names.includes(label)) {
      const known = names.map((name) => `\`${name}\``).join(", ");
      throw new Refused(`the trainer does not ask for the label, \`${label}\`; its \`rows\` are ${known}`);
    }
    this.batch = spec.columns ? columnsReader(spec.inputs) : rowsReader(spec.inputs);
    this.trainer = new spec.code(assets, parameters);
    this.artifacts = new Map();
  }

  feed(role, rows, batch) {
    notPromise("feed", this.trainer.feed(this.batch(rows, batch), ROLES[role]));
  }

  nextPass() {
    if (this.trainer.nextPass === undefined) return false;
    const more = this.trainer.nextPass();
    if (typeof more !== "boolean") throw new Refused(`\`nextPass\` returned ${described(more)}, wanted true or false`);
    return more;
  }

  /** Returns the names and sizes of the artifacts, and the metrics. */
  finish() {
    const trained = notPromise("finish", this.trainer.finish());
    if (typeof trained?.artifacts !== "object" || trained.artifacts === null) {
      throw new Refused(`\`finish\` returned ${described(trained)}, wanted { artifacts: { NAME: Uint8Array }, metrics: { NAME: number } }`);
    }
    for (const [name, content] of Object.entries(trained.artifacts)) {
      if (!(content instanceof Uint8Array)) throw new Refused(`artifact \`${name}\` is ${described(content)}, wanted a Uint8Array`);
      this.artifacts.set(name, content.slice());
    }
    const metrics = Object.entries(trained.metrics ?? {});
    for (const [name, value] of metrics) {
      if (typeof value !== "number") throw new Refused(`metric \`${name}\` is ${described(value)}, wanted a number`);
    }
    return [[...this.artifacts].map(([name, { length }]) => [name, length]), metrics];
  }

  read(artifact, offset) {
    return this.artifacts.get(artifact).subarray(offset, offset + PIECE);
  }
}

function notPromise(method, made) {
  if (made instanceof Promise) throw new Refused(`\`${method}\` returned a promise, which nothing waits for`);
  return made;
}
