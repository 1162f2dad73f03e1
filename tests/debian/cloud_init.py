#!/usr/bin/env python3
"""The user data of deploy/cloud-init: valid by cloud-init's own schema, and its commands work in a clean tree.

`make test-cloud-init`. cloud-init itself does not run, as a tree does not boot; its files are written and its commands
run as it would. Status 69: root, Debian's archive or the package (`make test-deb`) is missing.
"""

from __future__ import annotations

import json
import os
import shutil
import sys

from ansible import CONFIG, CONSOLES, debian_package
from trees import ROOT, Copy, Failed, Unavailable, base, isolate

TOOLS = ("cloud-init", "python3-venv", "systemd")
DATA = ROOT / "deploy" / "cloud-init" / "user-data.yaml"
AS_JSON = "import json, sys, yaml; print(json.dumps(yaml.safe_load(open(sys.argv[1]))))"


def main() -> None:
    try:
        isolate()
        start("trixie")
    except Unavailable as error:
        print(f"tests/debian: NOT RUN: {error}", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)
    except Failed as error:
        print(f"{error}\n0 passed, 1 failed")
        sys.exit(1)
    print("1 passed, 0 failed")


def start(release: str) -> None:
    """Do what cloud-init does at the first start, twice."""
    tree = Copy(base(release, "cloud", TOOLS), f"{release}-cloud")
    shutil.copy(DATA, tree.root / "root")
    shown = tree.run("cloud-init", "schema", "--config-file", "user-data.yaml", cwd="/root")
    if "Valid schema" not in shown:
        raise Failed(shown)
    print(shown.strip())
    data = json.loads(tree.run("python3", "-c", AS_JSON, "user-data.yaml", cwd="/root"))

    firmware = tree.root / "boot/firmware"
    firmware.mkdir(parents=True)
    (firmware / "config.txt").write_text(CONFIG)
    (firmware / "cmdline.txt").write_text(CONSOLES)
    shutil.copy(debian_package(release), firmware)
    for file in data["write_files"]:
        path = tree.root / file["path"].lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(file["content"])
        path.chmod(int(file.get("permissions", "0644"), 8))
    for _ in range(2):  # the script says that it may be repeated
        for words in data["runcmd"]:
            print(tree.run(*words).strip().splitlines()[-1])
    lines = (firmware / "config.txt").read_text().splitlines()
    enabled = lines.count("dtparam=i2c_arm=on") == lines.count("enable_uart=1") == lines.count("dtparam=uart0=on") == 1
    consoles = (firmware / "cmdline.txt").read_text()
    if not enabled or consoles != CONSOLES.partition(" ")[2]:
        raise Failed(f"interfaces: {lines} {consoles}")
    tree.run(*data["power_state"]["condition"])
    print("the Pi would restart, with the service enabled")


if __name__ == "__main__":
    main()
