"""deploy/install, which installs the command: tried in a directory of its own, without root and without network."""

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


BACKEND = """
import os, pathlib, shutil
def build_wheel(directory, *rest):
    pathlib.Path({chosen!r}).write_text(os.environ.get("HWLOOP_PURE", ""))
    return os.path.basename(shutil.copy({wheel!r}, directory))
"""
"""A build backend that records what is chosen."""


def install(
    *arguments: str | Path, umask: int = 0o022, script: str = str(ROOT / "deploy" / "install"), **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run deploy/install; pip may not ask any index, and no core has been chosen."""
    return subprocess.run(
        ["sh", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ | {"PIP_NO_INDEX": "1", "HWLOOP_PURE": ""} | environment,
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
        "hwloop.py": "def main():\n    import sys; print('the stand-in', *sys.argv[1:])\n",
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
    return ["--prefix", tmp_path / "opt", "--bin", tmp_path / "bin", "--python", sys.executable, "--source", wheel]


# One test, since making an environment takes seconds.
@pytest.mark.slow
def test_an_installation_from_a_false_start_to_its_end(tmp_path: Path, place: list[str | Path], wheel: Path) -> None:
    venv_command, command = tmp_path / "opt" / "venv" / "bin" / "hwloop", tmp_path / "bin" / "hwloop"

    venv.create(tmp_path / "opt" / "venv", with_pip=False)
    # As somebody calls it whose own files are nobody's business, and whose cd looks elsewhere first.
    first = install(*place, umask=0o077, script="deploy/install", CDPATH=f".:{ROOT.parent}:{tmp_path}")
    assert first.returncode == 0, first.stderr
    assert hidden(tmp_path / "opt") == []
    assert hidden(tmp_path / "bin") == []
    assert "venv does not work" in first.stdout
    assert "sudo hwloop service install PROGRAM" in first.stdout
    assert command.readlink() == venv_command
    assert subprocess.run([command], capture_output=True, text=True).stdout == "the stand-in\n"

    before = venv_command.parent.parent.stat().st_ino
    # A second run repairs what an installation under such a umask has left hidden, and passes on words for a service.
    for path in (tmp_path / "opt", tmp_path / "opt" / "venv", venv_command):
        path.chmod(path.stat().st_mode & 0o700)
    second = install(*place, "--wheelhouse", tmp_path, "--", "door.py", "--name", "a b", umask=0o027)
    assert second.returncode == 0, second.stderr
    assert second.stdout.endswith("the stand-in service install door.py --name a b\n")
    assert hidden(tmp_path / "opt") == []
    assert venv_command.parent.parent.stat().st_ino == before

    # From a wheelhouse without Cython, no core is compiled.
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (project / "backend.py").write_text(BACKEND.format(wheel=str(wheel), chosen=str(tmp_path / "chosen")))
    for chosen in ("1", ""):
        assert install(*place, "--wheelhouse", tmp_path, "--source", project).returncode == 0
        assert (tmp_path / "chosen").read_text() == chosen
        (tmp_path / "cython-3.1.0-py3-none-any.whl").touch()

    (tmp_path / "opt" / "services").mkdir()
    gone = install(*place, "--uninstall")
    assert "kept the services in" in gone.stdout
    (tmp_path / "opt" / "services").rmdir()
    for _ in range(2):
        gone = install(*place, "--uninstall")
        assert gone.returncode == 0, gone.stderr
        assert not (tmp_path / "opt").exists()
        assert not command.is_symlink()


def test_help_names_every_option() -> None:
    done = install("--help")
    assert done.returncode == 0
    for option in ("--prefix", "--bin", "--python", "--source", "--wheelhouse", "--lock", "--uninstall"):
        assert option in done.stdout


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--prefx", "/opt"], "unknown option: --prefx"),
        (["door"], "unknown option: door"),
        (["--prefix"], "--prefix needs a value"),
        (["--bin", ""], "--bin needs a value"),
        (["--prefix", "opt"], "--prefix must be an absolute path, not opt"),
        (["--bin", "bin"], "--bin must be an absolute path, not bin"),
        (["--prefix", "/opt/a|b"], "a path may contain only letters"),
        (["--prefix", "/opt/$(reboot)"], "a path may contain only letters"),
        (["--source", "--index-url=http://example.org"], "not a directory, a wheel or a requirement"),
        (["--wheelhouse", "/nowhere"], "there is no such directory"),
        (["--lock", "/nowhere"], "there is no such file"),
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
    assert not (tmp_path / "opt" / "venv").exists()


def test_a_python_that_is_too_old_is_named(tmp_path: Path, place: list[str | Path]) -> None:
    old = tmp_path / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Python 3.9.2 && exit\nexit 1\n')
    old.chmod(0o755)
    done = install(*place, "--python", old)
    assert done.returncode == 1
    assert "Python 3.9.2 is too old: hwloop needs Python 3.11" in done.stderr
    assert not (tmp_path / "opt" / "venv").exists()


def test_the_command_of_another_installation_stays(tmp_path: Path, place: list[str | Path]) -> None:
    command = tmp_path / "bin" / "hwloop"
    command.parent.mkdir()
    command.write_text("of pipx")
    done = install(*place)
    assert done.returncode == 1
    assert f"{command} is there already and belongs to another installation" in done.stderr
    assert install(*place, "--uninstall").returncode == 0
    assert command.read_text() == "of pipx"


def test_the_path_of_the_caller_leads_to_nothing(tmp_path: Path, place: list[str | Path]) -> None:
    for name in ("readlink", "mkdir", "python3"):
        (tmp_path / name).write_text(f"#!/bin/sh\ntouch {tmp_path}/trapped\n")
        (tmp_path / name).chmod(0o755)
    install(*place, "--python", "/nowhere/python", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert not (tmp_path / "trapped").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has something to lose")
@pytest.mark.parametrize("place", ["--prefix", "--bin"])
@pytest.mark.slow
def test_root_installs_nothing_where_somebody_else_could_replace_it(tmp_path: Path, place: str, wheel: Path) -> None:
    open_to_all, theirs, link = tmp_path / "open", tmp_path / "theirs", tmp_path / "sticky" / "link"
    for directory in (open_to_all, theirs, link.parent):
        directory.mkdir()
    open_to_all.chmod(0o777)
    link.parent.chmod(0o1777)
    link.symlink_to(tmp_path)
    for path in (theirs, link):
        os.chown(path, 12345, 12345, follow_symlinks=False)
    usual = {"--prefix": tmp_path / "opt", "--bin": tmp_path / "bin"}
    for hostile, complaint in (
        (open_to_all, "others than its owner may write"),
        (theirs, "12345"),
        (link, "others than"),
    ):
        options = [str(each) for pair in (usual | {place: hostile / "x"}).items() for each in pair]
        done = install(*options, "--python", sys.executable, "--source", wheel)
        assert done.returncode == 1
        assert complaint in done.stderr, done.stderr
        assert sorted(os.listdir(hostile)) == (sorted(os.listdir(tmp_path)) if hostile is link else [])
    assert not (tmp_path / "opt").exists()


@pytest.mark.slow
def test_variables_of_the_caller_lead_nowhere(tmp_path: Path, place: list[str | Path]) -> None:
    trap = tmp_path / "trap"
    trap.mkdir()
    for name in ("sitecustomize.py", "encodings.py", "venv.py", "pip.py"):
        (trap / name).write_text(f"open({str(trap / 'sprung')!r}, 'w')\n")
    variables = {"PYTHONPATH": str(trap), "PYTHONSTARTUP": str(trap / "pip.py"), "TMPDIR": str(trap)}
    done = install(*place, "--bin", tmp_path / "opt", "--source", "/nowhere/x.whl", **variables)
    assert done.returncode == 1
    assert "pip could not install" in done.stderr
    assert not (trap / "sprung").exists()


def test_without_root_the_directories_of_the_system_stay_as_they_are() -> None:
    """As root, the test runs the script as the user nobody, which may not be allowed to read the checkout."""
    script = (ROOT / "deploy" / "install").read_text()
    nobody: dict[str, Any] = {"user": 65534, "group": 65534, "extra_groups": []} if os.getuid() == 0 else {}
    done = subprocess.run(["sh", "-s"], input=script, cwd="/", capture_output=True, text=True, timeout=120, **nobody)
    assert done.returncode == 1
    assert "run this with sudo" in done.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="needs shellcheck (Debian: apt install shellcheck)")
def test_shellcheck_finds_nothing_wrong_with_the_script() -> None:
    done = subprocess.run(["shellcheck", ROOT / "deploy" / "install"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")
