#!/usr/bin/env python3
"""Renew requirements.txt, the packages in Debian's package, with the versions of .ci/constraints.txt: `make lock`.

The names, and the versions of Python for which a package is wanted, stay as they are. The hashes are those of the
wheels that pip takes for each Python and machine.
"""

from __future__ import annotations

import hashlib
import re
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import deb  # noqa: E402  # beside this script

PYTHONS = ("3.11", "3.12", "3.13", "3.14")
REQUIREMENTS = HERE / "requirements.txt"


def main() -> None:
    before = REQUIREMENTS.read_text()
    versions = dict(re.findall(r"^(\S+)==(\S+)$", (deb.ROOT / ".ci/constraints.txt").read_text(), re.MULTILINE))
    heading = "".join(re.findall(r"^#.*\n", before, re.MULTILINE))
    wanted = [(name, limit) for name, limit in re.findall(r"^(\w\S*?)==[^\s;]+(; \S+ < \S+)?", before, re.MULTILINE)]
    if missing := [name for name, _ in wanted if name not in versions]:
        sys.exit(f"packaging/lock.py: .ci/constraints.txt has no {', '.join(missing)}; make it again with: make lock")
    try:
        entries = [entry(f"{name}=={versions[name]}{limit}") for name, limit in wanted]
    except deb.Impossible as error:
        sys.exit(f"packaging/lock.py: {error}")
    REQUIREMENTS.write_text(heading + "".join(entries))


def entry(requirement: str) -> str:
    """Return a requirement with the hashes of all its wheels, in the format of pip."""
    hashes = {
        hashed
        for python in PYTHONS
        for machine in deb.MACHINES.values()
        for hashed in wheels(requirement, python, machine)
    }
    return " \\\n".join([requirement, *(f"    --hash=sha256:{each}" for each in sorted(hashes))]) + "\n"


def wheels(requirement: str, python: str, machine: str) -> list[str]:
    """Return the SHA-256 of the wheel for a Python and a machine; none if the requirement is not for that Python."""
    if not (wanted := deb.for_python(requirement, python)):
        return []
    with tempfile.TemporaryDirectory() as directory:
        deb.pip("download", "--no-deps", *deb.wheels_for(python, machine), "--dest", directory, wanted)
        return [hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in Path(directory).iterdir()]


if __name__ == "__main__":
    main()
