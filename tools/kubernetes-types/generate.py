#!/usr/bin/env python3
"""Writes src/model/fields/kubernetes.txt from Kubernetes' published sources: see README.md beside this file."""

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
TARGET = HERE.parent.parent / "src/model/fields/kubernetes.txt"
META = "k8s.io/apimachinery/pkg/apis/meta/v1"

HEAD = """\
# Fields of the Kubernetes {version} API types, one type per line: number in protobuf, JSON name, form, how it is merged.
# Made by tools/kubernetes-types from Kubernetes' sources: do not edit.
# An @ line says what a prefix of types stands for: the API version of its kinds, the name of its package in OpenAPI.
# Forms: s string, b bool, i integer of 32 bits, l integer of 64 bits, d number, y bytes, t time, m time with microseconds,
# q quantity, o integer or string, f any JSON; [T] list, {{T}} map from strings, a name is a message, and "." as JSON name
# puts its fields in this object.
# After the form: ? = a value that is there counts even when it is zero (in Go a pointer); ! = zero counts, and a missing value
# is zero (no omitempty); else zero is the same as a missing value (omitempty), but a message or quantity is always there.
# Merging, for server-side apply: "set", "map=KEY+KEY:DEFAULT" (lists), "atomic" (a map or object; after the name of a type:
# wherever it stands); for strategic merge patches: "merge" (a union), "merge=KEY" and "retain".
# After the name of a type: "kind" = its JSON also has apiVersion and kind; "either" = its JSON is the value of one of its fields.
"""

# Go types that have a form of their own.
FORMS = {
    (META, "Time"): "t",
    (META, "MicroTime"): "m",
    (META, "FieldsV1"): "f",
    ("k8s.io/apimachinery/pkg/api/resource", "Quantity"): "q",
    ("k8s.io/apimachinery/pkg/util/intstr", "IntOrString"): "o",
    ("k8s.io/apimachinery/pkg/runtime", "RawExtension"): "f",
    ("k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1", "JSON"): "f",
}
SCALARS = {"string": "s", "bool": "b", "int32": "i", "int64": "l", "float64": "d", "[]byte": "y"}
PROTO_SCALARS = {"string": "s", "bool": "b", "int32": "i", "int64": "l", "double": "d", "bytes": "y"}


class Fault(Exception):
    """What is wrong with the sources, in words."""


@dataclass
class GoField:
    """One field of a Go struct."""

    name: str
    type: str
    tags: dict
    markers: dict


@dataclass
class GoType:
    """One named Go type: a struct, or another type under a name."""

    fields: list = field(default_factory=list)
    alias: str = ""
    markers: dict = field(default_factory=dict)


class Package:
    """The types of one Go package, and the messages of its generated.proto."""

    def __init__(self, root, path):
        self.path = path
        folder = root / path.removeprefix("k8s.io/")
        if not folder.is_dir():
            raise Fault(f"the sources have no folder {folder}")
        self.types, self.imports = {}, {}
        for file in sorted(folder.glob("*.go")):
            if not file.name.startswith("zz_") and file.name != "generated.pb.go":
                self._read_go(file.read_text())
        proto = folder / "generated.proto"
        self.messages = read_proto(proto.read_text()) if proto.exists() else {}

    def _read_go(self, text):
        for name, path in re.findall(r'^\s*(?:import )?(\w+ )?"(k8s\.io/[^"]+)"$', text, re.M):
            # A version says nothing: Go files name such packages themselves.
            self.imports[name.strip() or path.rsplit("/", 1)[1]] = path
        comments, struct = [], None
        for line in text.splitlines():
            line = line.strip() if struct else line.rstrip()
            if line.lstrip().startswith("//"):
                comments.append(line.lstrip()[2:].strip())
                continue
            if struct is not None:
                if line == "}":
                    struct = None
                elif "`" in line:
                    struct.fields.append(go_field(line, markers(comments)))
            elif start := re.match(r"type (\w+) struct ?\{", line):
                struct = self.types[start[1]] = GoType(markers=markers(comments))
                if line.endswith("}"):
                    struct = None
            elif alias := re.match(r"type (\w+) ([\w.\[\]*]+)$", line):
                self.types[alias[1]] = GoType(alias=alias[2], markers=markers(comments))
            if line or struct is not None:
                comments = []


def markers(comments):
    """The `+name=value` lines of a comment; a name may occur more than once."""
    found = {}
    for line in comments:
        if line.startswith("+"):
            name, _, value = line[1:].partition("=")
            found.setdefault(name.strip(), []).append(value.strip())
    return found


def go_field(line, its_markers):
    """A line of a struct: `Name Type `tags``; without a name it is embedded."""
    words, tags = line.split("`")[:2]
    words = words.split()
    name, kind = (words[0], words[1]) if len(words) == 2 else ("", words[0])
    return GoField(name, kind, dict(re.findall(r'(\w+):"([^"]*)"', tags)), its_markers)


def read_proto(text):
    """Messages by name; of each, the type of each field by number."""
    messages = {}
    for name, body in re.findall(r"^message (\w+) \{\n(.*?)^\}", text, re.M | re.S):
        fields = re.findall(r"^  (optional|repeated|map<string,) ?\.?([\w.]+)>? (\w+) = (\d+);", body, re.M)
        messages[name] = {
            int(number): (label.split("<")[0], kind, name) for label, kind, name, number in fields
        }
    return messages


class Table:
    """The types of the kinds, and all that they refer to."""

    def __init__(self, root, sections):
        self.root, self.packages, self.lines = root, {}, {}
        self.prefixes = {path: prefix for path, _, prefix, _ in sections}
        for path, _, _, kinds in sections:
            for kind in kinds:
                self.add(path, kind)

    def package(self, path):
        if path not in self.packages:
            self.packages[path] = Package(self.root, path)
        return self.packages[path]

    def name(self, path, kind):
        prefix = self.prefixes.get(path)
        if prefix is None:
            raise Fault(f"{path}.{kind} is needed: add {path} to kinds.txt")
        return kind if prefix == "-" else f"{prefix}.{kind}"

    def add(self, path, kind):
        """Adds a type and what it refers to."""
        if (path, kind) in self.lines:
            return
        package = self.package(path)
        go, message = package.types.get(kind), package.messages.get(kind)
        if go is None or message is None:
            raise Fault(f"{path} has no type {kind}, or it is not in generated.proto")
        flags = " kind" if any(f.type.endswith("TypeMeta") for f in go.fields) else ""
        flags += " atomic" if go.markers.get("structType") == ["atomic"] else ""
        own = [
            (int(f.tags["protobuf"].split(",")[1]), f)
            for f in go.fields
            if "protobuf" in f.tags and f.tags["protobuf"] != "-"
        ]
        if go.alias or go.fields and all(f.tags.get("json", "-") == "-" for f in go.fields):
            self.lines[path, kind] = "pending"
            flags, fields = " either", either(package, go, message, self)
        else:
            self.lines[path, kind] = "pending"
            missing = set(message) ^ {number for number, _ in own}
            if missing:
                raise Fault(f"{path}.{kind}: Go and protobuf disagree about {sorted(missing)}")
            own.sort(key=lambda pair: pair[0])
            fields = [self.field(package, number, f, message[number]) for number, f in own]
        line = f"{self.name(path, kind)}{flags}: " + ", ".join(fields)
        self.lines[path, kind] = line.rstrip()

    def field(self, package, number, go, proto):
        name, *options = go.tags["json"].split(",")
        if "inline" in options:
            name = "."
        shape, inner, named = self.form(package, go.type.removeprefix("*"))
        check_proto(package, go, shape, inner, proto)
        presence = ""
        if name != ".":
            presence = "?" if go.type.startswith("*") else "" if "omitempty" in options else "!"
        words = [str(number), name, shape.replace("T", inner) + presence]
        return " ".join(words + self.merging(go, named))

    def form(self, package, kind):
        """Whether it is one value, a list or a map; of which form; and the message's package and name."""
        if kind in SCALARS:
            return "T", SCALARS[kind], None
        if kind.startswith("[]"):
            _, inner, named = self.form(package, kind[2:].removeprefix("*"))
            return "[T]", inner, named
        if kind.startswith("map["):
            _, inner, named = self.form(package, kind.split("]", 1)[1].removeprefix("*"))
            return "{T}", inner, named
        path = package.path
        if "." in kind:
            alias, kind = kind.split(".")
            path = package.imports[alias]
        if (path, kind) in FORMS:
            return "T", FORMS[path, kind], None
        other = self.package(path)
        go = other.types.get(kind)
        if go is None:
            raise Fault(f"{path} has no type {kind}")
        if go.alias and kind not in other.messages:
            return self.form(other, go.alias)
        self.add(path, kind)
        return "T", self.name(path, kind), (path, kind)

    def merging(self, go, item):
        """How the field is merged, in words of the table."""
        words = []
        match go.markers.get("listType", [""])[0]:
            case "set":
                words.append("set")
            case "map":
                keys = [self.key(item, key) for key in go.markers["listMapKey"]]
                words.append("map=" + "+".join(keys))
        if "atomic" in go.markers.get("mapType", []) + go.markers.get("structType", []):
            words.append("atomic")
        strategies = go.tags.get("patchStrategy", "").split(",")
        if "merge" in strategies:
            key = go.tags.get("patchMergeKey")
            words.append(f"merge={key}" if key else "merge")
        if "retainKeys" in strategies:
            words.append("retain")
        return words

    def key(self, item, key):
        """A key of a list's items, with the default that stands for a missing value."""
        for f in self.package(item[0]).types[item[1]].fields:
            if f.tags["json"].split(",")[0] == key and "default" in f.markers:
                return f"{key}:" + f.markers["default"][0].strip('"')
        return key


def either(package, go, message, table):
    """The fields of a type that encodes itself: its JSON is the value of one of them."""
    if go.alias:
        shape, inner, _ = table.form(package, go.alias)
        return [f"1 items {shape.replace('T', inner)}"]
    fields = []
    for number, (_, _, name) in sorted(message.items()):
        own = next(f for f in go.fields if f.name.lower() == name.lower())
        shape, inner, _ = table.form(package, own.type.removeprefix("*"))
        fields.append(f"{number} {name} {shape.replace('T', inner)}")
    return fields


def check_proto(package, go, shape, inner, proto):
    """What Go says must be what generated.proto says."""
    label, kind, name = proto
    same_label = {"T": "optional", "[T]": "repeated", "{T}": "map"}[shape] == label
    scalar = PROTO_SCALARS.get(kind)
    if not same_label or (scalar or inner in SCALARS.values()) and scalar != inner:
        raise Fault(f"{package.path}: {name} is {shape} {inner} in Go, {label} {kind} in protobuf")


def read_sections():
    lines = (line.split() for line in (HERE / "kinds.txt").read_text().splitlines())
    return [(w[0], w[1], w[2], w[3:]) for w in lines if w and not w[0].startswith("#")]


def open_api(path):
    """The name of a package in OpenAPI."""
    host, rest = path.split("/", 1)
    return ".".join(reversed(host.split("."))) + "." + rest.replace("/", ".")


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: generate.py SOURCES VERSION, as in: generate.py ~/kubernetes 1.36")
    root, version = Path(sys.argv[1]), sys.argv[2]
    staging = root / "staging/src/k8s.io"
    root = staging if staging.is_dir() else root
    sections = read_sections()
    table = Table(root, sections)
    lines = HEAD.format(version=version).splitlines()
    for path, api_version, prefix, _ in sections:
        lines.append(f"@{prefix.removeprefix('-')} {api_version} {open_api(path)}")
    for path, *_ in sections:
        lines += sorted(line for (own, _), line in table.lines.items() if own == path)
    TARGET.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    try:
        main()
    except Fault as fault:
        sys.exit(f"generate.py: {fault}")
