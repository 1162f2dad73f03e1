#!/usr/bin/env python3
"""The Ansible role of deploy/ansible, checked by ansible-lint and run in clean trees: `make test-ansible`.

In one tree it installs Debian's package, in the other a wheel. The second run changes nothing. Ansible is Debian's own,
and runs inside of the tree. Status 69: root, Debian's archive or a package index is missing.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from trees import ROOT, Copy, Failed, Unavailable, base, call, isolate

ROLE = ROOT / "deploy" / "ansible"
TOOLS = ("ansible-core", "python3-venv", "systemd")
CONFIG = "# For more options and information see\n#dtparam=i2c_arm=on\ndtparam=audio=on\n\n[cm4]\notg_mode=1\n"
SUFFIXES = {"bookworm": "deb12", "trixie": "deb13"}
CONSOLES = "console=serial0,115200 console=tty1 root=PARTUUID=1-02 rootwait\n"


def main() -> None:
    try:
        isolate()
        lint()
        made = call(sys.executable, str(ROOT / "packaging/deb.py"), "--release", "bookworm", "--source-only")
        [wheel] = Path(made.splitlines()[-1]).parent.glob("wheels/*.whl")
        play("bookworm", wheel)
        play("trixie", debian_package("trixie"))
    except Unavailable as error:
        print(f"tests/debian: NOT RUN: {error}", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)
    except Failed as error:
        print(f"{error}\n0 passed, 1 failed")
        sys.exit(1)
    print("3 passed, 0 failed")


def lint() -> None:
    """Check the role with ansible-lint, in an environment of its own."""
    environment = ROOT / "build" / "ansible"
    if not (environment / "bin/ansible-lint").exists():
        subprocess.run([sys.executable, "-m", "venv", environment], check=True)
        variables = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
        pip = [environment / "bin/pip", "install", "--quiet", "ansible-core", "ansible-lint"]
        if subprocess.run(pip, env=variables).returncode:
            raise Unavailable("pip could not install ansible-lint")
    os.environ["PATH"] = f"{environment / 'bin'}:{os.environ['PATH']}"
    call("sh", "-c", f"cd {ROLE} && ansible-lint --offline --profile production --strict --nocolor")
    print("ansible-lint is content")


def debian_package(release: str) -> Path:
    """Return the package that tests/debian/run.py has built."""
    found = sorted((ROOT / "build" / "deb").glob(f"hwloop_*~{SUFFIXES[release]}_*.deb"))
    if not found:
        raise Unavailable(f"there is no package for {release} yet: make test-deb")
    return found[-1]


def play(release: str, package: Path) -> None:
    """Run the example playbook twice, then remove its service."""
    tree = Copy(base(release, "ansible", TOOLS), f"{release}-ansible")
    shutil.copytree(ROLE, tree.root / "root/ansible")
    shutil.copy(package, tree.root / "root")
    firmware = tree.root / "boot/firmware"
    firmware.mkdir(parents=True)
    (firmware / "config.txt").write_text(CONFIG)
    (firmware / "cmdline.txt").write_text(CONSOLES)
    (firmware / "config.txt").chmod(0o755)
    service = {"name": "door", "program": "/root/ansible/files/door.py", "board": "sim"}
    variables = {"hwloop_package": f"/root/{package.name}", "hwloop_services": [service]}

    first = run(tree, variables)
    expect(first > 0, f"{release}: the first run changes {first} things")
    expect(run(tree, variables) == 0, f"{release}: the second run changes nothing")
    config = (firmware / "config.txt").read_text()
    expect("\ndtparam=i2c_arm=on\n" in config and "enable_uart=1\n" in config, "I2C and UART are enabled")
    expect("serial0" not in (firmware / "cmdline.txt").read_text(), "the serial port has no login console")
    unit = tree.root / "etc/systemd/system/hwloop-door.service"
    expect("--board sim" in unit.read_text(), f"{release}: the service is installed")
    expect(os.path.lexists(tree.root / "etc/systemd/system/multi-user.target.wants/hwloop-door.service"), "enabled")

    (tree.root / "root/ansible/files/door.py").write_text((ROLE / "files/door.py").read_text() + "# changed\n")
    expect(run(tree, variables) == 2, f"{release}: a changed program is copied and installed again")
    gone = variables | {"hwloop_services": [], "hwloop_services_absent": ["door"]}
    expect(run(tree, gone) == 1 and not unit.exists(), f"{release}: the service is removed")
    expect(run(tree, gone) == 0, f"{release}: and not again")


def run(tree: Copy, variables: dict[str, object]) -> int:
    """Run the playbook, and return how many things it has changed."""
    (tree.root / "root/variables.json").write_text(json.dumps(variables))
    command = ("ansible-playbook", "--connection=local", "--inventory=localhost,", "--extra-vars=@/root/variables.json")
    shown = tree.run(*command, "playbook.yml", cwd="/root/ansible")
    counts = re.search(r"changed=(\d+) .* failed=(\d+)", shown)
    if counts is None or counts[2] != "0":
        raise Failed(shown)
    return int(counts[1])


def expect(holds: bool, claim: str) -> None:
    """Report whether a claim holds. Raises `Failed` if not."""
    if not holds:
        raise Failed(f"NOT: {claim}")
    print(claim, flush=True)


if __name__ == "__main__":
    main()
