"""hwloop new: the project that it makes passes its own tests, and nothing is overwritten."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from firmware_sim import SimBoard
from hwloop.cli import COMMANDS, main
from hwloop.cli.new import NEEDED
from hwloop.cli.script_parts import parts_of
from hwloop.deployment.program import find_program

ROOT = Path(__file__).parents[1]


@pytest.fixture
def project(tmp_path, capsys):
    """A project made by `hwloop new`."""
    directory = tmp_path / "garden-door"
    assert main(["new", str(directory)]) == 0
    assert f"to run its tests: cd {directory}; pytest" in capsys.readouterr().out
    return directory


def run(directory: Path, *command: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "HWLOOP_"))}
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=directory,
        env={**environment, "PYTHONPATH": str(ROOT), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_its_tests_pass_as_they_stand_and_its_scenario_too(project):
    tested = run(project, "pytest", "-q", "-W", "error", "-p", "hwloop.testing.plugin")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert "12 passed" in tested.stdout
    played = run(project, "hwloop", "sim", "door.py", "--scenario", "night.toml")
    assert played.returncode == 0, played.stdout + played.stderr


@pytest.mark.slow
def test_the_runs_of_pytest_in_its_readme_pass(project):
    """The first one, of all tests, has a test of its own."""
    _, *commands = re.findall(r"^pytest(.*?)  +#", (project / "README.md").read_text(), re.MULTILINE)
    assert [command.split()[0] for command in commands] == [
        "--hwloop-seeds",
        "--hwloop-artifacts",
        "--hwloop-realtime",
    ]
    for command in commands:
        tested = run(project, "pytest", "-q", "-p", "hwloop.testing.plugin", *command.split())
        assert tested.returncode == 0, (command, tested.stdout, tested.stderr)


def test_hwloop_is_installed_before_what_needs_it_because_it_is_not_on_pypi(project):
    commands = re.findall(r"^pip install (.*?)(?:  +#.*)?$", (project / "README.md").read_text(), re.MULTILINE)
    assert commands == ["/path/to/hwloop", "-e '.[test]'"]
    workflow = (project / ".github/workflows/test.yml").read_text()
    assert "pip wheel --no-deps --wheel-dir wheels /path/to/hwloop" in workflow
    assert re.findall(r"- run: pip install (.*)", workflow) == ["--find-links wheels -e '.[test]'"]


@pytest.mark.slow
def test_a_mistake_in_the_program_fails_its_tests(project):
    program = project / "door.py"
    program.write_text(program.read_text().replace("alarm.cancel()", "pass"))
    tested = run(project, "pytest", "-q", "-p", "hwloop.testing.plugin")
    assert "test_closing_the_door_in_time_keeps_the_siren_silent" in tested.stdout
    assert tested.returncode == 1


def test_its_files_are_valid_and_carry_its_name(project):
    files = {str(path.relative_to(project)) for path in project.rglob("*") if path.is_file()}
    assert {"README.md", "board.toml", "door.py", "night.toml", "tests/test_door.py"} < files
    assert ".github/workflows/test.yml" in files
    assert ".gitignore" in files
    assert tomllib.loads((project / "pyproject.toml").read_text())["project"]["name"] == "garden-door"
    program = find_program(str(project))
    assert program.stem == "garden-door"  # as `hwloop service install` names the service
    assert program.look().devices().groups == ("gpio",)
    with SimBoard(project / "board.toml") as board:
        assert board.label == "garden-door"
    assert not [name for name in files if "PROJECT" in (project / name).read_text()]


def test_the_commands_of_its_readme_exist(project):
    readme = (project / "README.md").read_text() + (project / ".github/workflows/test.yml").read_text()
    used = {
        line.split("hwloop ")[1].split()[0]
        for line in readme.splitlines()
        if line.removeprefix("sudo ").startswith("hwloop ")
    }
    assert used <= set(COMMANDS)
    assert used >= {"run", "sim", "record", "service", "unit"}


def test_a_directory_that_is_not_empty_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert main(["new", str(tmp_path)]) == 1
    assert capsys.readouterr().err == f"hwloop new: {tmp_path} is not empty; name a new directory, or an empty one\n"
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]
    assert main(["new", str(tmp_path / "mine.txt")]) == 1
    assert "is a file" in capsys.readouterr().err


def test_an_empty_directory_is_filled_and_the_current_one_needs_no_cd(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["new", "."]) == 0
    assert capsys.readouterr().out.endswith("to run its tests: pytest\n")
    assert (tmp_path / "door.py").exists()


@pytest.mark.parametrize("name", ["a b", "-x", "dröhnen", "x'y"])
def test_a_name_that_no_project_can_have_is_a_usage_error(tmp_path, name, capsys):
    assert main(["new", str(tmp_path / name)]) == 2
    assert "can't be the name of a project" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["hwloop", "HWLoop", "pytest", "setuptools"])
def test_a_name_of_a_package_that_the_project_needs_is_a_usage_error(tmp_path, name, capsys):
    """Installing such a project would replace that package."""
    assert main(["new", str(tmp_path / name)]) == 2
    message = f"'{name}' is the name of a package that the project needs; choose another one, for example door-alarm"
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_the_packages_that_a_project_needs_are_those_of_hwloop_and_its_own(project):
    needed = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    own = tomllib.loads((project / "pyproject.toml").read_text())
    needed += own["project"]["dependencies"] + own["project"]["optional-dependencies"]["test"]
    needed += own["build-system"]["requires"]
    assert {re.split(r"[^a-z0-9_-]", each)[0] for each in needed} == set(NEEDED)


@pytest.mark.parametrize("options", [[], ["--script", "lamp.py"]])
def test_an_empty_name_of_a_directory_is_a_usage_error(tmp_path, monkeypatch, options, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lamp.py").write_text("")
    assert main(["new", "", *options]) == 2
    assert "hwloop new: the name of the directory is empty; '.' is the current one" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["lamp.py"]


def test_a_directory_that_can_not_be_made_is_a_failure(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["new", str(tmp_path / "file" / "project")]) == 1
    assert "not a directory" in capsys.readouterr().err


LAMP = """
from signal import pause
from gpiozero import LED, Button

DOOR = 17
lamp = LED(27, active_high=False)
door = Button(DOOR, pull_up=False)
door.when_pressed = lamp.on
pause()
"""


@pytest.mark.slow
def test_a_script_gets_its_board_and_three_tests_that_pass(tmp_path, capsys):
    pytest.importorskip("gpiozero")
    (tmp_path / "lamp.py").write_text(LAMP)
    directory = tmp_path / "lamp"
    assert main(["new", str(directory), "--script", str(tmp_path / "lamp.py")]) == 0
    assert f"made 4 files for lamp.py; to run its tests: cd {directory}; pytest" in capsys.readouterr().out
    assert (directory / "lamp.py").read_text() == LAMP
    assert tomllib.loads((directory / "board.toml").read_text())["device"] == [
        {"type": "led", "name": "lamp", "line": 27, "active_low": True},
        {"type": "button", "name": "door", "line": 17, "active_low": False},
    ]
    text = (directory / "tests" / "test_lamp.py").read_text()
    first, *others = re.findall(r"def (test_\w+)", text)
    assert first.startswith("test_it_runs_for_")  # for as long as it can in a moment
    assert others == ["test_door_changes_lamp", "test_its_end_leaves_no_line_driven"]
    tested = run(directory, "pytest", "-q", "-W", "error", "-p", "hwloop.testing.plugin")
    assert "3 passed" in tested.stdout, tested.stdout + tested.stderr


def test_a_script_may_be_in_any_directory_because_its_project_has_no_name(tmp_path, capsys):
    directory = tmp_path / "sp ace"
    directory.mkdir()
    (directory / "my work.py").write_text("")
    assert main(["new", str(directory), "--script", str(directory / "my work.py")]) == 0
    assert capsys.readouterr().out.endswith(f"to run its tests: cd '{directory}'; pytest\n")
    needs = (directory / "pyproject.toml").read_text().splitlines()[0]
    assert needs == "# Install what the tests need with: pip install /path/to/hwloop pytest"


def test_in_the_directory_of_a_script_nothing_is_overwritten(tmp_path, capsys, monkeypatch):
    pytest.importorskip("gpiozero")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pyproject.toml").write_text("")
    (tmp_path / "lamp.py").write_text("from gpiozero import LED\nLED(17).onn()\n")
    assert main(["new", ".", "--script", "lamp.py"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "board.toml\ntests/test_lamp.py\nmade 2 files for lamp.py; to run its tests: pytest\n"
    assert "on this board the script fails, and so do its tests: AttributeError: 'LED' object has" in captured.err
    assert main(["new", ".", "--script", "lamp.py"]) == 1
    assert "board.toml exists already; name another directory, or remove it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        (None, 2, "there is no such program"),
        ("async def main():\n    pass\n", 2, "has coroutine functions, and is tested by board.run(main())"),
        ("def f(:\n", 2, "invalid syntax"),
    ],
)
def test_a_file_that_is_no_script_is_an_error(tmp_path, capsys, text, status, message):
    if text is not None:
        (tmp_path / "lamp.py").write_text(text)
    assert main(["new", str(tmp_path / "made"), "--script", str(tmp_path / "lamp.py")]) == status
    assert message in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("lights = TrafficLights(2, 3, green=4)", [("led", "red", 2), ("led", "amber", 3), ("led", "green", 4)]),
        ("bar = gpiozero.LEDBoard(5, 6)", [("led", "bar_5", 5), ("led", "bar_6", 6)]),
        ("self.pir = MotionSensor('GPIO4')", [("pir", "pir", 4)]),
        ("eyes = DistanceSensor(echo=24, trigger=23)", [("hc-sr04", "eyes", 24, 23)]),
        ("leds = [LED(7), LED(7), LED(pin=8)]", [("led", "led_7", 7), ("led", "led_8", 8)]),
        (
            "knob = RotaryEncoder(20, 21)\nGPIO.setup(22, GPIO.OUT)",
            [("rotary-encoder", "knob", 20, 21), ("led", "led_22", 22)],
        ),
        ("led = LED(pins[0])\nbutton = Button(99)", []),
        ("import bme280", [("bme280", "bme280")]),
    ],
)
def test_the_parts_that_lines_suggest(line, parts):
    assert [(part.type, part.name, *part.lines) for part in parts_of(ast.parse(line))] == parts
