// The author's modules, which are in the asset only.

import { DECLARED, Refused } from "wafer";
import { isArchive, unpacked } from "wafer:archive";
import { decoded, settled } from "wafer:native";

let files = new Map();

/** Imports the module of a path from code: a source file, or an archive of modules. */
export function imported(path, code) {
  files = isArchive(code) ? unpacked(code) : new Map([[path, code]]);
  if (!files.has(path)) throw new Refused(`there is no module \`${path}\` in the code, which has ${listed(files.keys())}`);
  const module = settled(import(path));
  if (module === undefined) throw new Refused(`\`${path}\` waits for something that never comes`);
  return module;
}

/** Returns whether a module is the library's. */
export function isLibrary(path) {
  return path === "wafer" || path.startsWith("wafer:");
}

/** Returns some names of many. */
function listed(names) {
  const all = [...names].map((name) => `\`${name}\``);
  return all.length > 8 ? `${all.slice(0, 8).join(", ")} and ${all.length - 8} more` : all.join(", ") || "none";
}

/** Returns the path of a module that another one imports. */
export function resolved(base, name) {
  if (name === "wafer") return name;
  if (!name.startsWith("./") && !name.startsWith("../")) {
    throw new Refused(
      `${base}: cannot import \`${name}\`: a function has its own modules (\`./FILE.js\`) and \`wafer\`; ` +
      "put packages into its file by a bundler, such as `esbuild --bundle --format=esm --external:wafer`");
  }
  const path = joined(base.split("/").slice(0, -1), name);
  if (path !== null && files.has(path) && !isLibrary(path)) return path;
  const close = path !== null && files.has(`${path}.js`) ? `; write \`${name}.js\`` : "";
  throw new Refused(`${base}: cannot import \`${name}\`: the code has no file \`${path ?? name}\`${close}`);
}

function joined(folder, name) {
  const parts = [...folder];
  for (const part of name.split("/")) {
    if (part === "..") {
      if (parts.length === 0) return null;
      parts.pop();
    } else if (part !== ".") parts.push(part);
  }
  return parts.join("/");
}

/** Returns the source of a module. */
export function source(path) {
  const text = decoded(files.get(path));
  if (text === null) throw new Refused(`${path} is not text in UTF-8`);
  return text;
}

/** Returns a line of a file, for messages. */
export function lineOf(file, number) {
  if (!files.has(file)) return "";
  return decoded(files.get(file))?.split(/\r\n|[\n\r\u2028\u2029]/)[number - 1] ?? "";
}

/** Returns what was declared as an export of a module: the one that is wanted, or the default. */
export function declared(path, module, kind, wanted) {
  const of = (name) => (Object.hasOwn(module, name) ? module[name]?.[DECLARED] : undefined);
  const spec = of(wanted ?? "default");
  if (spec?.kind === kind) return spec;
  const found = Object.keys(module).filter((name) => of(name)?.kind === kind && name !== "default");
  const write = kind === "function" ? "fn({ … }, (row) => …)" : "trainer({ … }, class { … })";
  if (wanted !== null) throw new Refused(`\`${path}\` has no ${kind} \`${wanted}\` (it has ${listed(found)})`);
  if (found.length > 0) {
    throw new Refused(
      `\`${path}\` has the ${kind}s ${listed(found)}, and none of them is its default export: say which, as in ` +
      `\`javascript = "${path}:${found[0]}"\``);
  }
  throw new Refused(`\`${path}\` has no ${kind}: write \`export default ${write}\``);
}
