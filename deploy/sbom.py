#!/usr/bin/env python3
"""Prints the software bill of materials of the image's program, as CycloneDX 1.6: each crate that is linked into it or runs in its build.

    deploy/sbom.py >poolwatch.cdx.json            needs cargo; the same checkout gives the same bytes
    deploy/sbom.py --default-features             of the program with the demo's download, as the Debian package has it

Read from Cargo.lock through `cargo metadata` and `cargo tree`, for Linux on x86-64, without what only tests and benches use.
"""

import argparse
import json
import pathlib
import re
import subprocess
import tomllib
import uuid

ROOT = pathlib.Path(__file__).resolve().parents[1]


PLATFORM = "x86_64-unknown-linux-gnu"


def cargo(*arguments):
    return subprocess.run(["cargo", *arguments], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True).stdout


def built(features):
    """{(name, version)} of what a build takes: `cargo tree` tells tests' features apart from the program's, the metadata does not."""
    lines = cargo("tree", "--locked", "--edges", "normal,build", "--target", PLATFORM, "--prefix", "none", "--format", "{p}", *features).splitlines()
    return {(words[0], words[1].removeprefix("v")) for words in map(str.split, lines) if words}


def reached(graph, taken):
    """{package id: its dependencies}, from the root on, of the packages that are taken."""
    nodes, todo, found = {node["id"]: node for node in graph["resolve"]["nodes"]}, [graph["resolve"]["root"]], {}
    named = {one["id"]: (one["name"], one["version"]) for one in graph["packages"]}
    while todo:
        one = todo.pop()
        if one not in found:
            found[one] = sorted({dep["pkg"] for dep in nodes[one]["deps"] if named[dep["pkg"]] in taken and any(kind["kind"] != "dev" for kind in dep["dep_kinds"])})
            todo += found[one]
    return found


def checksums():
    """{(name, version): SHA-256 of the crate}, of Cargo.lock."""
    packages = tomllib.loads((ROOT / "Cargo.lock").read_text())["package"]
    return {(one["name"], one["version"]): one["checksum"] for one in packages if "checksum" in one}


def purl(package):
    return f"pkg:cargo/{package['name']}@{package['version']}"


def licence(text):
    """An SPDX expression; some crates write `/` for OR."""
    return [{"expression": re.sub(r"\s*/\s*", " OR ", text)}] if text else []


def component(package, known, kind):
    made = {"type": kind, "bom-ref": purl(package), "name": package["name"], "version": package["version"], "purl": purl(package), "scope": "required"}
    if package.get("description"):
        made["description"] = " ".join(package["description"].split())
    if package.get("license"):
        made["licenses"] = licence(package["license"])
    if (package["name"], package["version"]) in known:
        made["hashes"] = [{"alg": "SHA-256", "content": known[package["name"], package["version"]]}]
    return made


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--default-features", action="store_true")
    features = [] if parser.parse_args().default_features else ["--no-default-features"]
    graph = json.loads(cargo("metadata", "--locked", "--format-version", "1", "--filter-platform", PLATFORM, *features))
    packages, edges, known = {one["id"]: one for one in graph["packages"]}, reached(graph, built(features)), checksums()
    root = graph["resolve"]["root"]
    components = sorted((component(packages[one], known, "library") for one in edges if one != root), key=lambda one: one["bom-ref"])
    dependencies = sorted(({"ref": purl(packages[one]), "dependsOn": sorted(purl(packages[dep]) for dep in deps)} for one, deps in edges.items()), key=lambda one: one["ref"])
    bom = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"component": component(packages[root], known, "application")},
           "components": components, "dependencies": dependencies}
    # Of the contents, and without a time: the same parts have the same number.
    bom["serialNumber"] = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(bom, sort_keys=True)).urn
    print(json.dumps(bom, indent=1))


if __name__ == "__main__":
    main()
