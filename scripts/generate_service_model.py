#!/usr/bin/env python3
"""Writes src/wire/service_model.rs from the service models that botocore ships.

usage: generate_service_model.py [--check] [--output FILE]

The emulator validates what callers send against AWS's own shapes. This script reads botocore's
model of the control plane and of the data plane and writes the shapes of the operations that the
emulator implements as Rust statics, without their documentation. Run it with a Python that can
import botocore. `--check` writes nothing and fails when the committed file differs from what the
installed botocore would give: a newer botocore may have newer shapes, and that is worth knowing.
"""

import argparse
import difflib
import gzip
import json
import pathlib
import sys

CONTROL = (
    "bedrock-agentcore-control",
    "2023-06-05",
    [
        "CreateAgentRuntime",
        "GetAgentRuntime",
        "UpdateAgentRuntime",
        "ListAgentRuntimes",
        "DeleteAgentRuntime",
        "ListAgentRuntimeVersions",
        "CreateAgentRuntimeEndpoint",
        "GetAgentRuntimeEndpoint",
        "UpdateAgentRuntimeEndpoint",
        "ListAgentRuntimeEndpoints",
        "DeleteAgentRuntimeEndpoint",
        "TagResource",
        "UntagResource",
        "ListTagsForResource",
    ],
)
DATA = (
    "bedrock-agentcore",
    "2024-02-28",
    ["InvokeAgentRuntime", "InvokeAgentRuntimeCommand", "StopRuntimeSession"],
)

# Patterns that a regular expression engine cannot take as the model has them, and what the model means.
# Keys are the model's text; a test in src/wire/validate.rs compiles every pattern of the table, so a
# new broken one is found when the table is regenerated, not when a caller meets it.
PATTERN_FIXES = {}

LOCATIONS = {
    "uri": "Uri",
    "querystring": "Query",
    "header": "Header",
}


def load(data, service, version):
    path = data / service / version / "service-2.json"
    if path.exists():
        return json.loads(path.read_text())
    with gzip.open(path.with_name("service-2.json.gz"), "rt") as file:
        return json.load(file)


def text(value):
    """A Rust string literal."""
    if '"' in value or "\\" in value:
        hashes = "#"
        while f'"{hashes}' in value:
            hashes += "#"
        return f'r{hashes}"{value}"{hashes}' if '"' in value else f'r"{value}"'
    return json.dumps(value, ensure_ascii=False)


def option(value):
    return "None" if value is None else f"Some({value})"


class Table:
    """Collects shapes, each once, in the order in which they are first met."""

    def __init__(self):
        self.index = {}
        self.rows = []

    def add(self, model, service, name):
        key = (service, name)
        if key in self.index:
            return self.index[key]
        number = len(self.rows)
        self.index[key] = number
        self.rows.append(None)
        self.rows[number] = self.row(model, service, name)
        return number

    def row(self, model, service, name):
        shape = model["shapes"][name]
        sensitive = str(bool(shape.get("sensitive"))).lower()
        kind = self.kind(model, service, shape)
        return f"    Shape {{ name: {text(name)}, sensitive: {sensitive}, kind: {kind} }},"

    def kind(self, model, service, shape):
        low, high = option(shape.get("min")), option(shape.get("max"))
        match shape["type"]:
            case "structure":
                required = set(shape.get("required", []))
                members = "".join(
                    self.member(model, service, member, reference, member in required)
                    for member, reference in shape["members"].items()
                )
                union = str(bool(shape.get("union") or shape.get("eventstream"))).lower()
                return f"Kind::Structure {{ union: {union}, members: &[{members}] }}"
            case "list":
                member = self.add(model, service, shape["member"]["shape"])
                return f"Kind::List {{ member: {member}, min: {low}, max: {high} }}"
            case "map":
                key = self.add(model, service, shape["key"]["shape"])
                value = self.add(model, service, shape["value"]["shape"])
                return f"Kind::Map {{ key: {key}, value: {value}, min: {low}, max: {high} }}"
            case "string":
                pattern = shape.get("pattern")
                pattern = PATTERN_FIXES.get(pattern, pattern)
                pattern = "None" if pattern is None else f"Some({text(pattern)})"
                values = ", ".join(text(value) for value in shape.get("enum", []))
                return f"Kind::String {{ min: {low}, max: {high}, pattern: {pattern}, values: &[{values}] }}"
            case "integer":
                return f"Kind::Integer {{ min: {low}, max: {high} }}"
            case "boolean":
                return "Kind::Boolean"
            case "blob":
                return f"Kind::Blob {{ min: {low}, max: {high} }}"
            case "timestamp" if shape.get("timestampFormat") == "iso8601":
                return "Kind::Timestamp"
            case other:
                sys.exit(f"error: shapes of type `{other}` are not known to this script and to validate.rs")

    def member(self, model, service, name, reference, required):
        shape = self.add(model, service, reference["shape"])
        location = reference.get("location")
        if location is None:
            place = "Location::Body"
        elif location == "statusCode":
            place = "Location::StatusCode"
        elif location in LOCATIONS:
            place = f"Location::{LOCATIONS[location]}({text(reference['locationName'])})"
        else:
            sys.exit(f"error: location `{location}` of member `{name}` is not known to this script")
        if location is None and reference.get("locationName", name) != name:
            sys.exit(f"error: member `{name}` has another name in the body, which validate.rs does not know")
        token = str(bool(reference.get("idempotencyToken"))).lower()
        return (
            f"Member {{ name: {text(name)}, shape: {shape}, required: {str(required).lower()}, "
            f"location: {place}, idempotency_token: {token} }}, "
        )


def operation(table, model, service, name):
    op = model["operations"][name]
    http = op["http"]
    shapes = model["shapes"]
    payload = shapes[op["input"]["shape"]].get("payload")
    payload = option(text(payload) if payload else None)
    given = table.add(model, service, op["input"]["shape"])
    answer = table.add(model, service, op["output"]["shape"])
    errors = ", ".join(
        f"({text(error['shape'])}, {shapes[error['shape']]['error']['httpStatusCode']})" for error in op["errors"]
    )
    constant = "".join("_" + c if c.isupper() else c.upper() for c in name).lstrip("_")
    return (
        f"/// {name} of {service}.\n"
        f"pub static {constant}: Operation = Operation {{ name: {text(name)}, method: {text(http['method'])}, "
        f"uri: {text(http['requestUri'])}, status: {http['responseCode']}, input: {given}, output: {answer}, "
        f"payload: {payload}, errors: &[{errors}] }};\n",
        constant,
    )


def generate(data, version):
    table = Table()
    operations, names = [], []
    for service, api, wanted in (CONTROL, DATA):
        model = load(data, service, api)
        for name in wanted:
            code, constant = operation(table, model, service, name)
            operations.append(code)
            names.append("&" + constant)
    shapes = "\n".join(table.rows)
    return f"""//! The service's shapes. Made by scripts/generate_service_model.py from botocore {version}; do not edit.

use super::shape::{{Kind, Location, Member, Operation, Shape}};

/// The botocore version that the tables were made from.
pub const BOTOCORE_VERSION: &str = {text(version)};

{chr(10).join(operations)}
/// Every operation of the table.
pub static OPERATIONS: [&Operation; {len(names)}] = [{", ".join(names)}];

/// Every shape, known by its place.
#[rustfmt::skip]
pub(super) static SHAPES: [Shape; {len(table.rows)}] = [
{shapes}
];
"""


def formatted(code):
    """The operations as rustfmt writes them; the shape table is left one row a shape."""
    import subprocess

    result = subprocess.run(
        ["rustfmt", "--edition", "2024", "--config-path", str(pathlib.Path(__file__).resolve().parent.parent)],
        input=code,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout


def main():
    parser = argparse.ArgumentParser(description="Writes src/wire/service_model.rs from botocore's service models.")
    parser.add_argument("--check", action="store_true", help="compare with the committed file and write nothing")
    root = pathlib.Path(__file__).resolve().parent.parent
    parser.add_argument("--output", type=pathlib.Path, default=root / "src/wire/service_model.rs")
    arguments = parser.parse_args()
    try:
        import botocore
    except ImportError:
        sys.exit("error: this Python has no `botocore`\nhint: python3 -m pip install botocore, in an environment of its own")
    data = pathlib.Path(botocore.__file__).parent / "data"
    code = formatted(generate(data, botocore.__version__))
    if not arguments.check:
        arguments.output.write_text(code)
        return
    committed = arguments.output.read_text()
    if committed != code:
        difference = difflib.unified_diff(
            committed.splitlines(), code.splitlines(), "committed", f"botocore {botocore.__version__}", lineterm="", n=0
        )
        print("\n".join(difference))
        sys.exit(f"error: `{arguments.output}` is not what botocore {botocore.__version__} gives\nhint: run this script without --check and look at what changed")


if __name__ == "__main__":
    main()
