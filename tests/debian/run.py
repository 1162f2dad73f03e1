#!/usr/bin/env python3
"""Debian's package, tried as its users do: `make test-deb`.

For each release the package is built and checked by lintian in a tree of that release, and installed, used, upgraded,
removed and purged in a clean one. In another clean one, the commands of docs/tutorial-service.md are run. The trees
(build/debian) are made once, with debootstrap, root and Debian's archive; where these are missing the status is 69.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

from trees import ROOT, Copy, Failed, Unavailable, base, call, isolate

TOOLS = ("debhelper", "lintian")
CLOCK = ("--board", "sim", "--clock", "virtual", "--limit", "20")
passed = 0


def main() -> None:
    releases = sys.argv[1:] or ["bookworm", "trixie"]
    try:
        isolate()
        for release in releases:
            package = try_package(release)
            follow_tutorial(release, package)
    except Unavailable as error:
        print(f"tests/debian: NOT RUN: {error}", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)
    except Failed as error:
        print(f"{error}\n{passed} passed, 1 failed")
        sys.exit(1)
    print(f"{passed} passed, 0 failed")


def try_package(release: str) -> Path:
    """Try the package of a release, and return it."""
    older, package = build(release)
    tree = Copy(base(release), release)
    for each in (older, package):
        shutil.copy(each, tree.root / "root")
    needed = re.sub(r"\(.*?\)|:any", "", call("dpkg-deb", "-f", str(package), "Depends")).replace(" ", "")
    python = next(name for name in alternatives(needed) if re.fullmatch(r"python3\.\d+", name))
    wanted = (*alternatives(needed), f"{python}-venv", "systemd")
    tree.run("apt-get", "install", "-qq", "--no-install-recommends", *wanted)
    before = tree.files()

    tree.run("apt-get", "install", "-qq", "--no-install-recommends", f"/root/{older.name}")
    check(release, "is installed", "hwloop_earlier" in str(packages(tree)))
    use(tree, release)

    tree.run("apt-get", "install", "-qq", "--no-install-recommends", f"/root/{package.name}")
    check(
        release, "is upgraded", tree.run("dpkg-query", "-W", "-f", "${Version}", "hwloop") == package.name.split("_")[1]
    )
    check(release, "an upgrade leaves no older module", "hwloop_earlier" not in str(packages(tree)))
    use(tree, release)
    serve(tree, release)

    for words in (("apt-get", "remove", "-qq", "hwloop"), ("dpkg", "--purge", "hwloop")):
        tree.run(*words)
        check(release, f"{words[0]} {words[1]} leaves nothing", tree.files() - before)
    check(release, "dpkg has forgotten it", "hwloop" not in tree.run("dpkg-query", "-W"))
    return package


def follow_tutorial(release: str, package: Path) -> None:
    """Run the commands of the tutorial that need no Pi, in their order, in one clean tree."""
    tree = Copy(base(release), f"{release}-tutorial")
    shutil.copy(package, tree.root / "root")
    (tree.root / "etc/apt/apt.conf.d/yes").write_text('APT::Get::Assume-Yes "true";\nquiet "2";\n')
    text = (ROOT / "docs" / "tutorial-service.md").read_text(encoding="utf-8")
    for title, block in re.findall(r'^```\w+ title="([^"]+)"\n(.*?)^```', text, re.DOTALL | re.MULTILINE):
        (tree.root / "root" / title).write_text(block, encoding="utf-8")
    for block in re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
        for line in block.splitlines():
            if line.endswith("# Pi"):
                continue
            command = line.removeprefix("sudo ")
            if command.startswith("hwloop run "):  # until Ctrl-C, by which it dies
                shown = tree.run("sh", "-c", f"timeout --preserve-status -s INT 15 {command}", cwd="/root", status=130)
                check(release, "the tutorial's program pumps", "pumping" in shown)
            else:
                shown = tree.run("sh", "-c", command, cwd="/root")
            check(release, f"the tutorial's command works: {line}", "Traceback" not in shown)


def build(release: str) -> tuple[Path, Path]:
    """Build the package, and one of a version before it with a module that this one has not; return both."""
    source = Path(call(sys.executable, str(ROOT / "packaging/deb.py"), "--release", release, "--revision", "2",
                       "--source-only").splitlines()[-1])  # fmt: skip
    tree = Copy(base(release, "build", TOOLS), f"{release}-build")
    shutil.copytree(source.parent, tree.root / "build", symlinks=True)
    inside = f"/build/{source.name}"
    command = ("dpkg-buildpackage", "--build=binary", "--no-sign", "-d")
    tree.run(*command, cwd=inside)
    shown = tree.run("sh", "-c", "lintian --allow-root --fail-on error,warning *.changes", cwd="/build")
    check(release, "lintian is content", set(shown.splitlines()))
    [package] = (tree.root / "build").glob("*.deb")
    packages = ROOT / "build" / "deb"
    newer = Path(shutil.copy(package, packages))
    package.unlink()

    changes = tree.root / inside.lstrip("/") / "debian/changelog"
    changes.write_text(changes.read_text().replace("-2~", "-1~"))
    [modules] = (tree.root / inside.lstrip("/")).glob("environment/lib/*/site-packages")
    (modules / "hwloop_earlier.py").write_text("VERSION = 1\n")
    tree.run(*command, cwd=inside)
    [package] = (tree.root / "build").glob("*.deb")
    return Path(shutil.copy(package, packages)), newer


def alternatives(depends: str) -> list[str]:
    """Return the packages of a Depends field; the first one where there are alternatives."""
    return [group.split("|")[0] for group in depends.strip().split(",")]


def packages(tree: Copy) -> list[str]:
    """Return the files of the environment, without their suffixes."""
    return [path.name for path in (tree.root / "usr/lib/hwloop").rglob("*") if path.is_file()]


def use(tree: Copy, release: str) -> None:
    """Use the installed package."""
    program = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    assert program is not None
    (tree.root / "root/program.py").write_text(program[1], encoding="utf-8")
    version = tree.run("hwloop", "--version")
    check(release, f"--version: {version.strip()}", version.startswith("hwloop "))
    found = tree.run("hwloop", "doctor")
    check(release, "hwloop doctor finds gpiod, and no GPIO chip", "gpiod 2" in found and "no GPIO chip" in found)
    shown = tree.run("hwloop", "run", "program.py", *CLOCK, cwd="/root", status=1)  # by the limit
    check(release, "the README's program prints sentences of the GPS receiver", "$GP" in shown)
    unit = tree.run("hwloop", "unit", "program.py", cwd="/root")
    check(
        release, "hwloop unit names the command in the environment", "\nExecStart=/usr/lib/hwloop/bin/hwloop " in unit
    )
    libraries = "import gpiod, gpiozero, serial, smbus2" + (", lgpio" if release == "bookworm" else "")
    where = "import gpiod; print(gpiod.__file__)"
    tree.run("/usr/lib/hwloop/bin/python3", "-c", libraries, cwd="/tmp")
    imported = tree.run("/usr/lib/hwloop/bin/python3", "-c", where, cwd="/tmp")
    check(release, "its libraries are its own", imported.startswith("/usr/lib/hwloop/lib/"))
    # Ordinary users leave no compiled files behind, and need not compile.
    compiled = {path.name.partition(".")[0] for path in (tree.root / "usr/lib/hwloop").rglob("*.pyc")}
    check(release, "its modules are compiled", {"event_loop", "board"} <= compiled)
    for path in (
        "usr/share/man/man1/hwloop.1.gz",
        "usr/share/doc/hwloop/copyright",
        "usr/share/doc/hwloop/README.Debian",
    ):
        check(release, f"/{path} is there", any((tree.root / each).exists() for each in (path, f"{path}.gz")))
    groups = (tree.root / "etc/group").read_text()
    check(release, "it has added the groups of devices", all(f"\n{name}:" in groups for name in ("gpio", "i2c", "spi")))
    rules = list((tree.root / "usr/lib/udev/rules.d").glob("*-hwloop.rules"))
    check(release, "udev gives them the devices", len(rules) == 1)


def serve(tree: Copy, release: str) -> None:
    """Install a program as a service, and remove it."""
    before = tree.files()
    command = ("hwloop", "service", "install", "program.py", "--name", "door", "--board", "sim")
    shown = tree.run(*command, cwd="/root")
    check(release, "a service is installed", "it starts at the next boot" in shown)
    again = tree.run(*command, cwd="/root")
    check(release, "and not again", "nothing changed" in again)
    tree.run("systemd-analyze", "verify", "--man=no", "/etc/systemd/system/hwloop-door.service")
    check(release, "hwloop service list shows it", "door" in tree.run("hwloop", "service", "list"))
    tree.run("hwloop", "service", "uninstall", "door")
    check(release, "its removal leaves nothing", tree.files() - before)


def check(release: str, claim: str, holds: bool | set[str]) -> None:
    """Report whether a claim holds; a set has what speaks against it. Raises `Failed` if not."""
    global passed
    if isinstance(holds, set) and holds:
        raise Failed(f"{release}: NOT: {claim}: {' '.join(sorted(holds)[:20])}")
    if holds is False:
        raise Failed(f"{release}: NOT: {claim}")
    passed += 1
    print(f"{release}: {claim}", flush=True)


if __name__ == "__main__":
    main()
