"""deploy/install and the unit it puts in place: tried in a directory of its own, without root and without network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
UNIT = ROOT / "systemd" / "hwloop@.service"


def install(
    *arguments: str | Path, umask: int = 0o022, script: str = str(ROOT / "deploy" / "install"), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run deploy/install; pip may not ask any index."""
    return subprocess.run(
        ["sh", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PIP_NO_INDEX": "1"} | environment,
        umask=umask,
        cwd=ROOT,
        timeout=120,
    )


def hidden(directory: Path) -> list[Path]:
    """Return the directory and its entries that others may not read, or not enter or run although the owner may."""
    found = []
    for path in (directory, *directory.rglob("*")):
        if not path.is_symlink():
            mode = path.stat().st_mode
            if not mode & 0o004 or (mode & 0o100 and not mode & 0o001):
                found.append(path)
    return found


@pytest.fixture
def wheel(tmp_path: Path) -> Path:
    """A wheel in hwloop's stead that needs nothing: what is tried here is the script, not pip's way to the index."""
    path = tmp_path / "hwloop-0.1.0-py3-none-any.whl"
    about = "hwloop-0.1.0.dist-info"
    files = {
        "hwloop.py": "def main():\n    print('the stand-in')\n",
        "gpiod.py": "",
        f"{about}/METADATA": "Metadata-Version: 2.1\nName: hwloop\nVersion: 0.1.0\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": "[console_scripts]\nhwloop = hwloop:main\n",
    }
    files[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{about}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return path


@pytest.fixture
def place(tmp_path: Path, wheel: Path) -> list[str | Path]:
    """Options that keep the script inside the test's directory."""
    return ["--prefix", tmp_path / "opt", "--etc", tmp_path / "etc", "--python", sys.executable, "--source", wheel]


# One test, since making an environment takes seconds.
@pytest.mark.slow
def test_an_installation_from_a_false_start_to_its_end(tmp_path: Path, place: list[str | Path]) -> None:
    command = tmp_path / "opt" / "venv" / "bin" / "hwloop"
    unit = tmp_path / "etc" / "systemd" / "system" / "hwloop@.service"
    program = tmp_path / "etc" / "hwloop" / "door.py"

    venv.create(tmp_path / "opt" / "venv", with_pip=False)
    # As somebody calls it whose own files are nobody's business, and whose cd looks elsewhere first.
    first = install(
        *place, "--user", "porter", umask=0o077, script="deploy/install", CDPATH=f".:{ROOT.parent}:{tmp_path}"
    )
    assert first.returncode == 0, first.stderr
    assert hidden(tmp_path / "opt") == []
    assert hidden(tmp_path / "etc") == []
    assert "venv does not work" in first.stdout
    assert f"installed {unit}" in first.stdout
    assert "note:" not in first.stdout  # gpiod is enough to reach real lines
    assert subprocess.run([command], capture_output=True, text=True).stdout == "the stand-in\n"
    lines = unit.read_text().splitlines()
    assert f"ExecStart={command} run {tmp_path}/etc/hwloop/%i.py" in lines
    assert "User=porter" in lines
    assert unit.stat().st_mode & 0o777 == 0o644

    program.write_text("async def main(): pass\n")
    before = (unit.stat(), command.parent.parent.stat().st_ino)
    # A second run repairs what an installation under such a umask has left hidden.
    hiding = [tmp_path / "opt", tmp_path / "opt" / "venv", command, tmp_path / "etc" / "hwloop"]
    for path in hiding:
        path.chmod(path.stat().st_mode & 0o700)
    second = install(*place, "--user", "porter", umask=0o027)
    assert second.returncode == 0, second.stderr
    assert hidden(tmp_path / "opt") == []
    assert hidden(tmp_path / "etc" / "hwloop") == []
    assert f"installed {unit}" not in second.stdout
    assert (unit.stat(), command.parent.parent.stat().st_ino) == before
    assert sorted(path.name for path in unit.parent.iterdir()) == [unit.name]

    without = install(*place, "--no-systemd", "--etc", tmp_path / "other")
    assert without.returncode == 0, without.stderr
    assert not (tmp_path / "other").exists()

    for _ in range(2):
        gone = install(*place, "--uninstall")
        assert gone.returncode == 0, gone.stderr
        assert not unit.exists()
        assert not (tmp_path / "opt").exists()
        assert program.exists()


def test_help_names_every_option() -> None:
    done = install("--help")
    assert done.returncode == 0
    for option in ("--prefix", "--user", "--python", "--source", "--no-systemd", "--etc", "--uninstall"):
        assert option in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--prefx", "/opt"], "unknown option: --prefx"),
        (["door"], "unknown option: door"),
        (["--prefix"], "--prefix needs a value"),
        (["--user", ""], "--user needs a value"),
        (["--prefix", "opt"], "--prefix must be an absolute path, not opt"),
        (["--etc", "etc"], "--etc must be an absolute path, not etc"),
        (["--prefix", "/opt/a|b"], "a path may contain only letters"),
        (["--user", "Door;rm"], "not a valid user name"),
    ],
)
def test_wrong_arguments_change_nothing(arguments: list[str], complaint: str) -> None:
    done = install(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "--help" in done.stderr


def test_a_missing_python_is_named(tmp_path: Path, place: list[str | Path]) -> None:
    done = install(*place, "--python", tmp_path / "python9")
    assert done.returncode == 1
    assert f"{tmp_path}/python9 not found" in done.stderr
    assert not (tmp_path / "opt").exists()


def test_a_python_that_is_too_old_is_named(tmp_path: Path, place: list[str | Path]) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit\nexit 1\n')
    old.chmod(0o755)
    done = install(*place, "--python", old)
    assert done.returncode == 1
    assert "Python 3.9.2 is too old: hwloop needs Python 3.11" in done.stderr
    assert not (tmp_path / "opt").exists()


def test_without_root_the_directories_of_the_system_stay_as_they_are() -> None:
    """As root, the test runs the script as the user nobody, which may not be allowed to read the checkout."""
    script = (ROOT / "deploy" / "install").read_text()
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    done = subprocess.run(["sh", "-s"], input=script, cwd="/", capture_output=True, text=True, timeout=120, **nobody)
    assert done.returncode == 1
    assert "use sudo" in done.stderr


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: apt install systemd)"
)
def test_systemd_finds_nothing_wrong_with_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / UNIT.name
    # systemd-analyze would report a program that is not installed.
    unit.write_text(UNIT.read_text().replace("/opt/hwloop/venv/bin/hwloop", shutil.which("true") or "/bin/true"))
    done = subprocess.run(["systemd-analyze", "verify", str(unit)], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck (Debian: apt install shellcheck)")
def test_shellcheck_finds_nothing_wrong_with_the_script() -> None:
    done = subprocess.run(["shellcheck", ROOT / "deploy" / "install"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
