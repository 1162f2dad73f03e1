"""Programs to install: files, projects, wheels and packages, and versions of Python."""

from __future__ import annotations

import os
import sys
import zipfile
from pathlib import Path

import pytest

from hwloop.deployment.commands import CommandError, clean_environment, find_tool, run
from hwloop.deployment.own_wheel import pack_own_wheel
from hwloop.deployment.program import (
    Contents,
    InstalledProgram,
    ScriptProgram,
    check_requirement,
    find_program,
    satisfies,
)
from hwloop.deployment.script import ProgramError


@pytest.fixture
def project(tmp_path: Path) -> Path:
    directory = tmp_path / "alarm"
    (directory / "door_alarm").mkdir(parents=True)
    (directory / "tests").mkdir()
    (directory / "pyproject.toml").write_text('[project]\nname = "door-alarm"\nrequires-python = ">=3.11"\n')
    (directory / "door_alarm" / "__init__.py").write_text("from hwloop import gpio\n")
    (directory / "tests" / "test_it.py").write_text("import mystery\n")
    return directory


def test_a_file_may_name_the_function_to_run(tmp_path: Path) -> None:
    (tmp_path / "door.py").write_text("async def watch(): pass\n")
    program = find_program(f"{tmp_path}/door.py:watch")
    assert isinstance(program, ScriptProgram)
    assert program.arguments(tmp_path, "/env", "/files") == ("/files/door.py:watch",)
    assert (program.label, program.stem) == ("door.py", "door")


def test_a_project_is_described_by_its_pyproject_and_its_own_modules(project: Path) -> None:
    program = find_program(str(project))
    assert isinstance(program, InstalledProgram)
    assert (program.label, program.stem, program.project, program.requires_python) == (
        "alarm/", "door-alarm", project, ">=3.11",
    )  # fmt: skip
    assert program.look().devices().groups == ("gpio",)  # the tests have no say
    before = program.digest
    (project / "door_alarm" / "__init__.py").write_text("from hwloop import i2c\n")
    (project / "build").mkdir()
    (project / "build" / "junk").write_text("")
    changed = find_program(str(project))
    assert changed.digest != before
    (project / "build" / "more").write_text("")
    assert find_program(str(project)).digest == changed.digest


def test_a_wheel_is_described_by_its_name_and_read_for_its_devices(tmp_path: Path) -> None:
    path = tmp_path / "door_alarm-1.2-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("door_alarm/__init__.py", "import door_alarm.app\nfrom hwloop import spi\n")
    program = find_program(str(path))
    assert isinstance(program, InstalledProgram)
    assert (program.stem, program.project) == ("door_alarm", path)
    assert program.look().devices().groups == ("spi",)
    path.write_bytes(b"PK nonsense")
    with pytest.raises(ProgramError, match="is not a wheel: file is not a zip file; build it again"):
        find_program(str(path))


def test_a_package_of_an_index_is_a_requirement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    program = find_program("door-alarm[mqtt]>=1.2,<2")
    assert isinstance(program, InstalledProgram)
    assert (program.stem, program.requirements) == ("door-alarm", ("door-alarm[mqtt]>=1.2,<2",))
    assert "imports door-alarm, which may open any" in program.look().devices().because


@pytest.mark.parametrize(
    "text", ["-rsecrets", "--index-url=http://evil", "a b", "a\n-r b", "", "../x", "a;b\x00", "https://x/y.whl", "é"]
)
def test_an_option_of_pip_is_no_requirement(text: str) -> None:
    with pytest.raises(ProgramError, match="no requirement such as"):
        check_requirement(text)


@pytest.mark.parametrize(
    "text", ["a", "a==1", "a [x] >= 1", 'a; python_version < "3.12"', "a @ https://x/a-1.whl", "a~=1.0"]
)
def test_requirements_of_all_forms_are_taken(text: str) -> None:
    assert check_requirement(text) == "a"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("missing.py", "missing.py: no such file or directory"),
        ("missing/door", "there is no such file or directory"),
        ("empty", "has no pyproject.toml"),
        ("nameless", "has no valid name"),
        ("broken", "pyproject.toml: .*; correct it"),
        ("-x", "no requirement such as"),
    ],
)
def test_anything_else_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, problem: str) -> None:
    monkeypatch.chdir(tmp_path)
    for name, toml in (("nameless", "[project]\n"), ("broken", "x =")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "pyproject.toml").write_text(toml)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ProgramError, match=problem):
        find_program(text)


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    """An environment whose Python is this one, and whose distributions are in a directory of the test."""
    (tmp_path / "bin").mkdir()
    launcher = tmp_path / "bin" / "python"
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = sys.argv[1:]; exec(sys.argv.pop(1))"
    launcher.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} -I -c "{code}" x "$@"\n')
    launcher.chmod(0o755)
    return tmp_path


def test_the_contents_of_a_package_are_those_of_its_distribution(environment: Path) -> None:
    about = environment / "door_alarm-1.dist-info"
    package = environment / "door_alarm"
    for directory in (about, package):
        directory.mkdir()
    for name in ("__init__.py", "__main__.py"):
        (package / name).touch()  # a newer Python leaves out files that are not there
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: door-alarm\nVersion: 1\n")
    (about / "RECORD").write_text("door_alarm/__init__.py,,\ndoor_alarm/__main__.py,,\n../../bin/x.py,,\n")
    program = InstalledProgram("door-alarm", "door-alarm", "door-alarm")
    assert program.arguments(environment, "/env", "/files") == ("-m", "door_alarm")


def contents(modules: str = "", runnable: str = "", scripts: str = "") -> Contents:
    return Contents(scripts.split(), modules.split(), runnable.split())


@pytest.mark.parametrize(
    ("found", "entry", "words"),
    [
        (contents(scripts="alarm"), "", ("/env/bin/alarm",)),
        (contents(scripts="alarm other"), "other", ("/env/bin/other",)),
        (contents(scripts="alarm door-alarm"), "", ("/env/bin/door-alarm",)),
        (contents("door", "door"), "", ("-m", "door")),
        (contents("door_alarm more", "door_alarm more"), "", ("-m", "door_alarm")),
        (contents("door_alarm"), "door_alarm.app", ("-m", "door_alarm.app")),
    ],
)
def test_a_package_starts_with_its_script_or_its_module(found: Contents, entry: str, words: tuple[str, ...]) -> None:
    assert InstalledProgram("door-alarm", "door-alarm", "door-alarm", entry=entry).words(found, "/env") == words


@pytest.mark.parametrize(
    ("found", "entry", "problem"),
    [
        (contents(scripts="alarm other"), "", "has the scripts alarm, other; choose one: --entry alarm"),
        (contents("door_alarm"), "", "has no script, and no package with a __main__"),
        (contents("door", "door", "alarm"), "gate", "has no such script or module; it has: alarm, door"),
    ],
)
def test_a_package_that_does_not_say_how_it_starts_is_named(found: Contents, entry: str, problem: str) -> None:
    with pytest.raises(ProgramError, match=problem):
        InstalledProgram("door-alarm", "door-alarm", "door-alarm", entry=entry).words(found, "/env")


@pytest.mark.parametrize(
    ("requires", "fits"),
    [
        ("", True),
        (">=3.11", True),
        (">=3.12", False),
        (">=3.9, <4", True),
        ("<3.11", False),
        ("==3.11.*", True),
        ("!=3.11.*", False),
        ("==3.11", False),
        ("~=3.10", True),
        ("~=3.11.3", False),
        (">3.11.2", False),
        ("<=3.11.2", True),
    ],
)
def test_the_versions_of_python_that_a_program_wants(requires: str, fits: bool) -> None:
    assert satisfies((3, 11, 2), requires) is fits


def test_a_version_that_is_no_comparison_is_named() -> None:
    with pytest.raises(ProgramError, match="is no comparison such as"):
        satisfies((3, 11, 2), "3.11 or so")


def test_the_running_hwloop_packs_itself_with_all_that_it_needs(tmp_path: Path) -> None:
    wheel = pack_own_wheel()
    assert pack_own_wheel().digest == wheel.digest
    path = tmp_path / wheel.file_name
    path.write_bytes(wheel.data)
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        about = f"hwloop-{wheel.version}.dist-info"
        assert "Requires-Dist: gpiozero" in archive.read(f"{about}/METADATA").decode()
        assert "hwloop = hwloop.cli:script" in archive.read(f"{about}/entry_points.txt").decode()
        recorded = [line.split('"')[1] for line in archive.read(f"{about}/RECORD").decode().splitlines()]
    assert recorded == names
    assert {"hwloop/cli/service.py", "hwloop/deployment/hwloop.service", "firmware_sim/default_board.toml"} < set(names)
    assert not [name for name in names if name.endswith(".pyc")]


def test_commands_get_no_variable_that_leads_them_astray() -> None:
    astray = ("PIP_TARGET", "PYTHONPATH", "VIRTUAL_ENV", "UV_PYTHON", "LD_PRELOAD", "PATH")
    kept = {"PIP_INDEX_URL": "https://example.org", "HTTPS_PROXY": "http://proxy", "HOME": "/root"}
    given = dict.fromkeys(astray, "/tmp") | kept
    found = clean_environment(given)
    assert found.keys() == kept.keys() | {"PATH", "LC_ALL"}
    assert "/tmp" not in found["PATH"]


def test_a_failed_command_shows_its_last_lines(tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="sh failed:\n    one\n    two"):
        run(["sh", "-c", "echo one; echo two >&2; exit 1"], tmp_path)
    with pytest.raises(CommandError, match=r"false failed:\n    \(status 1\)"):
        run(["false"], tmp_path)
    with pytest.raises(CommandError, match="no such file"):
        run(["/nowhere/tool"], tmp_path)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is careful")
def test_root_does_not_execute_a_tool_that_others_could_replace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "uv").write_text("#!/bin/sh\n")
    (tmp_path / "uv").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_tool("uv") == str(tmp_path / "uv")
    tmp_path.chmod(0o777)
    assert find_tool("uv") == ""
