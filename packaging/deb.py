#!/usr/bin/env python3
"""Build Debian's package of hwloop: `make deb`.

    packaging/deb.py                                  for this machine
    packaging/deb.py --release trixie --arch arm64    for a Raspberry Pi; --source-only leaves the last step to others

The package has an environment of its own in /usr/lib/hwloop. Debian's packages do not suffice: bookworm and trixie have
gpiozero 1.6.2 (hwloop needs 2.0), neither has lgpio, and bookworm's libgpiod 1.6.3 and smbus2 0.4.2 are too old. The
environment uses Debian's Python, sees the packages of the system, and holds wheels of which requirements.txt has the
hashes. Compiled wheels are for one version of Python, so each release of Debian gets a package of its own.

Everything that needs the network or a tool of Python happens here, in build/deb/RELEASE-ARCH/hwloop-VERSION:
`environment` is what /usr/lib/hwloop becomes. dpkg-buildpackage makes the package of it, on any machine that has
debhelper, without network, for any architecture.
"""

from __future__ import annotations

import argparse
import datetime
import email.utils
import os
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path.insert(0, str(HERE))

from manpage import man_page  # noqa: E402  # beside this script

RELEASES = {"bookworm": ("deb12", "3.11"), "trixie": ("deb13", "3.13")}
"""The suffix of the version, by which the package of the next release is newer, and the version of Python."""
MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}
"""The architectures for which all wheels exist, as wheels name them."""
PLATFORMS = ("manylinux_2_17", "manylinux2014", "manylinux_2_28", "manylinux_2_34", "manylinux_2_36")
"""The platform tags of wheels that work with bookworm's C library (2.36) and all later ones."""


class Impossible(Exception):
    """The package can't be built here; the message says why, and what to do."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Build Debian's package of hwloop.")
    parser.add_argument("--release", choices=RELEASES, help="the release of Debian (default: that of this machine)")
    parser.add_argument("--arch", choices=MACHINES, help="the architecture (default: that of this machine)")
    parser.add_argument("--revision", type=int, default=1, help="a higher one is an upgrade of the same version (1)")
    parser.add_argument("--source-only", action="store_true", help="prepare the directory, and build nothing")
    arguments = parser.parse_args()
    try:
        release = arguments.release or this_release()
        arch = arguments.arch or this_architecture()
        source = prepare(release, arch, arguments.revision)
        print(source if arguments.source_only else build(source, arch))
    except Impossible as error:
        print(f"packaging/deb.py: {error}", file=sys.stderr)
        sys.exit(os.EX_UNAVAILABLE)


def this_release() -> str:
    """Return the release of Debian that runs here."""
    name = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    if name not in RELEASES:
        raise Impossible(f"this is not Debian {' or '.join(RELEASES)}; choose one with --release")
    return name


def this_architecture() -> str:
    """Return Debian's name of this machine's architecture."""
    name = next((deb for deb, machine in MACHINES.items() if machine == platform.machine()), "")
    if not name:
        raise Impossible(
            f"gpiod has no wheel for {platform.machine()}; choose another --arch, or use deploy/install on that machine"
        )
    return name


def prepare(release: str, arch: str, revision: int) -> Path:
    """Make the directory from which dpkg-buildpackage makes the package, and return it."""
    suffix, python = RELEASES[release]
    [version] = re.findall(r'^__version__ = "(.*)"$', (ROOT / "hwloop/__init__.py").read_text(), re.MULTILINE)
    work = ROOT / "build" / "deb" / f"{release}-{arch}"
    shutil.rmtree(work, ignore_errors=True)
    source = work / f"hwloop-{version}"
    (work / "wheels").mkdir(parents=True)
    pip("wheel", "--no-deps", "--wheel-dir", work / "wheels", ROOT)
    install(work, source / "environment", python, MACHINES[arch])
    shutil.copytree(HERE / "debian", source / "debian")
    (source / "debian" / "substvars.python").write_text(f"python{python}")
    (source / "debian" / "changelog").write_text(changelog(f"{version}-{revision}~{suffix}", release))
    (source / "hwloop.1").write_text(man_page())
    shutil.copy(ROOT / "CHANGELOG.md", source / "CHANGELOG.md")
    return source


def install(work: Path, environment: Path, python: str, machine: str) -> None:
    """Fill the environment with hwloop and the packages that it needs, for another Python and processor than these."""
    target = environment / "lib" / f"python{python}" / "site-packages"
    wanted = work / "requirements.txt"
    wanted.write_text(for_python((HERE / "requirements.txt").read_text(), python))
    common = ["--no-deps", "--no-compile", *wheels_for(python, machine), "--target", target]
    pip("install", *common, "--require-hashes", "--requirement", wanted)
    pip("install", *common, "--no-index", "--find-links", work / "wheels", "hwloop")
    shutil.rmtree(target / "bin")
    for record in target.glob("*.dist-info/RECORD"):  # dpkg has its own, of what it has changed as well
        record.unlink()
    (environment / "bin").mkdir()
    (environment / "bin" / "python3").symlink_to(f"/usr/bin/python{python}")
    (environment / "bin" / "python").symlink_to("python3")
    command = environment / "bin" / "hwloop"
    command.write_text(
        "#!/usr/lib/hwloop/bin/python3\nimport sys\n\nfrom hwloop.cli import script\n\n"
        'if __name__ == "__main__":\n    sys.exit(script())\n'
    )
    command.chmod(0o755)
    (environment / "pyvenv.cfg").write_text(
        f"home = /usr/bin\ninclude-system-site-packages = true\nversion = {python}\n"
        f"executable = /usr/bin/python{python}\n"
    )


def wheels_for(python: str, machine: str) -> list[str]:
    """Return pip's options for the wheels of another Python and processor than these."""
    tags = [f"--platform={each}_{machine}" for each in PLATFORMS]
    abis = [f"--abi={each}" for each in (f"cp{python.replace('.', '')}", "abi3", "none")]
    return ["--only-binary=:all:", "--implementation=cp", f"--python-version={python}", *abis, *tags]


def for_python(requirements: str, python: str) -> str:
    """Return the requirements for a version of Python.

    pip evaluates markers for the Python that runs it, not for that of --python-version.
    """
    version = tuple(map(int, python.split(".")))
    kept = []
    for each in re.split(r"^(?=\w)", requirements, flags=re.MULTILINE):
        limit = re.search(r'; python_version < "(\d+)\.(\d+)"', each)
        if limit is None or version < tuple(map(int, limit.groups())):
            kept.append(each.replace(limit[0], "") if limit else each)
    return "".join(kept)


def changelog(version: str, release: str) -> str:
    """Return debian/changelog: one entry, as CHANGELOG.md has the rest."""
    control = (HERE / "debian" / "control").read_text()
    [maintainer] = re.findall(r"^Maintainer: (.*)$", control, re.MULTILINE)
    seconds = int(os.environ.get("SOURCE_DATE_EPOCH") or newest_change())
    date = email.utils.format_datetime(datetime.datetime.fromtimestamp(seconds, datetime.UTC))
    return (
        f"hwloop ({version}) {release}; urgency=medium\n\n"
        f"  * /usr/share/doc/hwloop/changelog.gz lists the changes.\n\n -- {maintainer}  {date}\n"
    )


def newest_change() -> float:
    """Return the time of the last change of hwloop, so that the same files make the same package."""
    shown = subprocess.run(["git", "-C", str(ROOT), "log", "-1", "--format=%ct"], capture_output=True, text=True)
    return float(shown.stdout) if shown.returncode == 0 else (ROOT / "CHANGELOG.md").stat().st_mtime


def build(source: Path, arch: str) -> Path:
    """Make the package, and return it."""
    if not shutil.which("dpkg-buildpackage") or not shutil.which("dh"):
        raise Impossible("debhelper is missing: sudo apt install debhelper")
    # No check of build dependencies (-d): it asks for a compiler, and nothing is compiled.
    command = ["dpkg-buildpackage", "--build=binary", "--no-sign", "-d", f"--host-arch={arch}"]
    done = subprocess.run(command, cwd=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}\npackaging/deb.py: dpkg-buildpackage ended with status {done.returncode}")
    [package] = source.parent.glob("*.deb")
    return package


def pip(command: str, *arguments: str | Path) -> None:
    """Call pip. The wheel of hwloop is pure: its package may be for another Python and processor than these."""
    words = [sys.executable, "-m", "pip", command, "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if name != "PIP_CONSTRAINT"}
    environment["HWLOOP_PURE"] = "1"
    done = subprocess.run(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Impossible(f"pip {command} failed:\n{done.stdout.strip()}")


if __name__ == "__main__":
    main()
