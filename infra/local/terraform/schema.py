"""schema.py OUT.json: extracts the schema of Terraform's AWS provider from an npm package.

Terraform checks configurations against the schema that the provider's program returns. That program is not on any
package registry, but @cdktn/provider-aws (MPL-2.0) is, whose classes are generated from the same schema. Each of its
modules has a source map with its source, in which comments say for every attribute whether it is computed, optional or
required. This script parses these sources, and writes for each resource and data source

    {"attributes": {name: {"type": T, "use": "required" | "optional" | "optional_computed" | "computed"}},
     "blocks": {name: {"nesting": "single" | "list" | "set" | "map", "min": n, "max": n, "attributes": …}}}

with types in Terraform's JSON encoding: "string", ["list", "string"], ["object", {…}].
"""

import base64
import json
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile

PACKAGE = "@cdktn/provider-aws@25.7.0"

SIMPLE = {"string": "string", "number": "number", "boolean": "bool", "any": "dynamic"}
GETTERS = {
    "String": "string",
    "Number": "number",
    "Boolean": "bool",
    "List": ["list", "string"],
    "NumberList": ["list", "number"],
    "StringMap": ["map", "string"],
    "BooleanMap": ["map", "bool"],
    "NumberMap": ["map", "number"],
}
# An entry of the table from which a class writes its HCL: name, value, whether it is a block, type, storage class type.
ENTRY = re.compile(
    r"^ +(\w+): \{\n\s+value: (.*),\n\s+isBlock: (true|false),\n\s+type: \"(\w+)\",\n"
    r"\s+storageClassType: \"(\w+)\",\n",
    re.M,
)
USE = re.compile(
    r"^\s*// (\w+) - computed: (true|false), optional: (true|false), required: (true|false)", re.M
)
GETTER = re.compile(r"this\.get(\w+?)Attribute\(['\"](\w+)['\"]\)")
MAP_GETTER = re.compile(r"new cdktn\.(\w+Map)\(this, ['\"](\w+)['\"]")
SET_GETTER = re.compile(r"Fn\.tolist\(this\.getListAttribute\(['\"](\w+)['\"]\)\)")
NESTED = re.compile(
    r"new (\w+?)(List|OutputReference|Map)\(this, ['\"](\w+)['\"](?:, (true|false))?"
)
SINGLE = re.compile(r"new \w+OutputReference\(this, ['\"](\w+)['\"]\)")
FUNCTION = re.compile(
    r"^export function (\w+)ToHclTerraform\(struct\?: [^\n]*\{\n(.*?)^\}", re.M | re.S
)
CLASS = re.compile(r"^export class (\w+)OutputReference extends [^\n]*\{\n(.*?)^\}", re.M | re.S)
MAIN = re.compile(
    r"^export class \w+ extends cdktn\.Terraform(?:Resource|DataSource|Provider) \{\n(.*?)^\}",
    re.M | re.S,
)
TOO_DEEP = 6


def type_of(kind, storage):
    """Returns the type of an attribute that is not an object."""
    if kind == "simple":
        return SIMPLE.get(storage, "dynamic")
    match = re.fullmatch(r"(string|number|boolean)((?:List|Map)+)", storage)
    if not match:
        return "dynamic"
    found, layers = SIMPLE[match[1]], re.findall("List|Map", match[2])
    for index, layer in enumerate(layers):
        is_outermost = index == len(layers) - 1
        found = ["set" if kind == "set" and is_outermost else layer.lower(), found]
    return found


def uses(text):
    """Returns for each attribute whether it is required, optional or computed."""
    names = {
        ("false", "true"): "optional",
        ("true", "true"): "optional_computed",
        ("true", "false"): "computed",
        ("false", "false"): "computed",
    }
    return {
        name: "required" if required == "true" else names[computed, optional]
        for name, computed, optional, required in USE.findall(text)
    }


def getters(text):
    """Returns the types of the attributes that a class has getters for."""
    found = {name: GETTERS.get(kind, "dynamic") for kind, name in GETTER.findall(text)}
    found |= {name: GETTERS.get(kind, "dynamic") for kind, name in MAP_GETTER.findall(text)}
    found |= {name: ["set", "string"] for name in SET_GETTER.findall(text)}
    return found


class Module:
    """The source of one module of the package: a resource, a data source or the provider."""

    def __init__(self, text):
        self.text = text
        self.functions = dict(FUNCTION.findall(text))
        self.classes = dict(CLASS.findall(text))

    def schema(self):
        """Returns the schema of the module's main class, or None if it has none."""
        main = MAIN.search(self.text)
        if main is None:
            return None
        written = main[1][main[1].index("synthesizeHclAttributes") :]
        found = self.block(ENTRY.findall(written), main[1])
        found["attributes"].setdefault("id", {"type": "string", "use": "computed"})
        return found

    def object_type(self, name, depth):
        """Returns the object type of a class, with its attributes and nested objects."""
        text = self.classes.get(name)
        if text is None or depth > TOO_DEEP:
            return "string"
        types = getters(text) | self.nested_types(text, depth + 1)
        return ["object", {name: without_dynamic(types[name]) for name in sorted(types)}]

    def nested_types(self, text, depth=0):
        found = {}
        for name, kind, attribute, is_set in NESTED.findall(text):
            if name == "cdktn.String":
                continue
            element = self.object_type(name, depth)
            wrapped = {"OutputReference": element, "Map": ["map", element]}
            found[attribute] = wrapped.get(kind, ["set" if is_set == "true" else "list", element])
        return found

    def block(self, entries, text):
        """Returns the schema of a block, from the entries that it writes and the source of its class."""
        use, single, nested = uses(text), set(SINGLE.findall(text)), self.nested_types(text)
        attributes, blocks = {}, {}
        for name, value, is_block, kind, storage in entries:
            maker = re.search(r"(?<![\w.])(\w+)ToHclTerraform", value)
            maker = maker[1] if maker and maker[1] in self.functions else None
            used = use.get(name, "optional")
            if maker and is_block == "true":
                nesting = kind if kind in ("list", "set", "map") else "single"
                is_many = nesting in ("list", "set")
                inner = self.classes.get(maker[0].upper() + maker[1:], "")
                blocks[name] = {
                    "nesting": nesting,
                    "min": int(used == "required" and is_many),
                    "max": int(name in single and is_many),
                    **self.block(ENTRY.findall(self.functions[maker]), inner),
                }
            else:
                found = nested.get(name, "dynamic") if maker else type_of(kind, storage)
                attributes[name] = {"type": found, "use": used}
        read = getters(text)
        for name in (read.keys() | use.keys()) - attributes.keys() - blocks.keys():
            attributes[name] = {
                "type": read.get(name) or nested.get(name, "dynamic"),
                "use": use.get(name, "computed"),
            }
        return {"attributes": attributes, "blocks": blocks}


def without_dynamic(found):
    """Returns a type with every dynamic type replaced by string."""
    if found == "dynamic":
        return "string"
    if isinstance(found, str):
        return found
    if found[0] == "object":
        return ["object", {name: without_dynamic(inner) for name, inner in found[1].items()}]
    return [found[0], without_dynamic(found[1])]


def forbid_dynamic_in_sets(block, is_in_set=False):
    """Replaces dynamic types within sets of blocks, where Terraform does not allow them."""
    if is_in_set:
        for attribute in block["attributes"].values():
            attribute["type"] = without_dynamic(attribute["type"])
    for inner in block["blocks"].values():
        forbid_dynamic_in_sets(inner, is_in_set or inner["nesting"] == "set")


def read(library):
    """Returns the schemas of all modules below a folder."""
    found = {"provider": None, "resources": {}, "data_sources": {}}
    for path in sorted(library.glob("*/index.js")):
        script = path.read_text()
        if "base64," not in script:
            continue
        source_map = json.loads(base64.b64decode(script[script.rindex("base64,") + 7 :]))
        schema = Module(source_map["sourcesContent"][0]).schema()
        if schema is None:
            continue
        forbid_dynamic_in_sets(schema)
        kind = re.search(r'tfResourceType = "(\w+)"', script)
        folder = path.parent.name
        if folder == "provider":
            # Terraform itself adds these attributes.
            del schema["attributes"]["id"]
            schema["attributes"].pop("alias", None)
            found["provider"] = schema
        elif kind:
            found["data_sources" if folder.startswith("data-") else "resources"][kind[1]] = schema
    return found


def main(out):
    with tempfile.TemporaryDirectory() as folder:
        # The package is only downloaded and unpacked; none of its scripts are run.
        subprocess.run(
            ["npm", "pack", PACKAGE, "--loglevel=error"], cwd=folder, check=True, stdout=subprocess.DEVNULL
        )
        (packed,) = pathlib.Path(folder).glob("*.tgz")
        with tarfile.open(packed) as archive:
            archive.extractall(folder, filter="data")
        found = read(pathlib.Path(folder) / "package" / "lib")
    pathlib.Path(out).write_text(json.dumps(found, separators=(",", ":"), sort_keys=True))
    print(f"{len(found['resources'])} resources, {len(found['data_sources'])} data sources")


if __name__ == "__main__":
    main(sys.argv[1])
