"""The software bill of materials: CycloneDX's own validator takes it, it is complete, and the same for the same checkout."""

import json
import re
import tomllib

import pages
from compose import run


def made(*arguments):
    return run(pages.ROOT / "deploy" / "sbom.py", *arguments).stdout


def check_sbom(world):
    """Each crate whose code is in the release program is listed, with its licence and its checksum of Cargo.lock."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    text = made("--default-features")
    assert text == made("--default-features"), "not the same twice"
    wrong = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    assert wrong is None, wrong
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(text.replace('"library"', '"libary"', 1)) is not None, "the validator finds nothing"
    bom = json.loads(text)
    listed = {(one["name"], one["version"]) for one in bom["components"]}
    # A program names the files of its crates in its panics: what is linked into this one, whatever cargo says.
    program = open(world.binary, "rb").read()
    linked = {(name.decode(), version.decode()) for name, version in re.findall(rb"/registry/src/[^/\0]+/([A-Za-z][\w-]*?)-(\d+\.\d+\.\d+[\w.+-]*)/", program)}
    assert len(linked) > 30, f"only {len(linked)} crates were found in the program"
    assert linked <= listed, f"in the program and not in the list: {linked - listed}"
    assert len(json.loads(made())["components"]) < len(listed), "the image's program has not less than the whole"
    locked = {(one["name"], one["version"]): one.get("checksum") for one in tomllib.loads((pages.ROOT / "Cargo.lock").read_text())["package"]}
    for one in bom["components"]:
        assert one["hashes"][0]["content"] == locked[one["name"], one["version"]] and one["licenses"], one["name"]
    version = tomllib.loads((pages.ROOT / "Cargo.toml").read_text())["package"]["version"]
    assert bom["metadata"]["component"]["version"] == version
    refs = {one["bom-ref"] for one in bom["components"]} | {bom["metadata"]["component"]["bom-ref"]}
    assert {one["ref"] for one in bom["dependencies"]} == refs and all(set(one["dependsOn"]) <= refs for one in bom["dependencies"])


CHECKS = (check_sbom,)
