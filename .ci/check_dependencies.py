#!/usr/bin/env python3
"""Checks what can be known of the dependencies without an advisory database.

Checked: every crate comes from the registry by a checksum in Cargo.lock, no crate is there that Cargo.lock
does not name, and every licence is on the list below. Reported: crates that are there in several versions.
Not checked, because it needs a database of its own: security advisories and yanked versions.
"""

import collections
import json
import re
import subprocess
import sys
import tomllib

# Licences that ask for no more than notices when a binary is given away.
ALLOWED = {
    "0BSD", "Apache-2.0", "Apache-2.0 WITH LLVM-exception", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0",
    "CC0-1.0", "CDLA-Permissive-2.0", "ISC", "MIT", "MIT-0", "Unicode-3.0", "Unlicense", "Zlib", "blessing",
}
# Crates whose manifest names no licence, with what their licence file says. None so far.
CLARIFIED = {}


def allowed(expression):
    """Evaluates an SPDX expression; `/` is how old manifests write OR."""
    tokens = re.findall(r"\(|\)|[^\s()]+", expression.replace("/", " OR "))
    value, at = either(tokens, 0)
    if at != len(tokens):
        raise ValueError(expression)
    return value


def either(tokens, at):
    value, at = both(tokens, at)
    while at < len(tokens) and tokens[at] == "OR":
        other, at = both(tokens, at + 1)
        value = value or other
    return value, at


def both(tokens, at):
    value, at = single(tokens, at)
    while at < len(tokens) and tokens[at] == "AND":
        other, at = single(tokens, at + 1)
        value = value and other
    return value, at


def single(tokens, at):
    if tokens[at] == "(":
        value, at = either(tokens, at + 1)
        return value, at + 1
    name, at = tokens[at], at + 1
    if at + 1 < len(tokens) and tokens[at] == "WITH":
        name, at = f"{name} WITH {tokens[at + 1]}", at + 2
    return name in ALLOWED, at


def main():
    assert allowed("MIT OR GPL-3.0") and allowed("(MIT OR Apache-2.0) AND Unicode-3.0")
    assert not allowed("MIT AND GPL-3.0") and allowed("Apache-2.0 WITH LLVM-exception OR GPL-2.0")

    tracked = subprocess.run(["git", "ls-files", "--error-unmatch", "Cargo.lock"], capture_output=True)
    problems = [] if tracked.returncode == 0 else ["Cargo.lock is not committed"]
    metadata = json.loads(subprocess.run(
        ["cargo", "metadata", "--locked", "--format-version", "1"], check=True, capture_output=True).stdout)
    with open("Cargo.lock", "rb") as file:
        locked = {(p["name"], p["version"]): p for p in tomllib.load(file)["package"]}

    versions = collections.defaultdict(list)
    for package in metadata["packages"]:
        name = f"{package['name']} {package['version']}"
        versions[package["name"]].append(package["version"])
        if package["id"] in metadata["workspace_members"]:
            continue
        if not (package["source"] or "").startswith("registry+"):
            problems.append(f"{name} comes from {package['source'] or 'a path'}, not from the registry")
        if "checksum" not in locked.get((package["name"], package["version"]), {}):
            problems.append(f"{name} has no checksum in Cargo.lock")
        licence = package["license"] or CLARIFIED.get(package["name"])
        if not licence:
            problems.append(f"{name} names no licence")
        elif not allowed(licence):
            problems.append(f"{name} has the licence {licence}")

    for name, found in sorted(versions.items()):
        if len(found) > 1:
            print(f"in several versions: {name} {', '.join(sorted(found))}")
    print(f"{len(metadata['packages'])} crates; not checked: security advisories, yanked versions")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
