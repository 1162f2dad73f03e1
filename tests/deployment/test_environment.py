"""Environments: the tool that makes them, what each tool is asked, and one that is really made, without a network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from hwloop.deployment import environment
from hwloop.deployment.commands import CommandError
from hwloop.deployment.environment import (
    EnvironmentBuilder,
    Pip,
    Plan,
    Tool,
    Uv,
    choose_tool,
    is_complete,
    packages_of,
)
from hwloop.deployment.interpreter import Interpreter, inspect
from hwloop.deployment.layout import Layout
from hwloop.deployment.lock import Lock, read_lock
from hwloop.deployment.own_wheel import Wheel

PYTHON = Interpreter("/usr/bin/python3.11", (3, 11, 2), "/usr/lib/python3.11", "cpython-311 linux")


def wheel(directory: Path, name: str, version: str = "1.0", **files: str) -> Path:
    """Make a wheel of a module with the name of its package."""
    path = directory / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    contents = {
        f"{name}.py": "",
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        **files,
    }
    with zipfile.ZipFile(path, "w") as archive:
        for entry, text in contents.items():
            archive.writestr(entry, text)
        archive.writestr(f"{about}/RECORD", "".join(f"{entry},,\n" for entry in [*contents, f"{about}/RECORD"]))
    return path


def test_uv_is_chosen_where_it_is_present_and_pip_asks_no_other_indexes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configuration = tmp_path / "pip.conf"
    monkeypatch.setattr(environment, "find_tool", lambda name: f"/usr/bin/{name}")
    assert choose_tool(configuration).name == "uv"
    configuration.write_text("[global]\ntimeout = 60\n")
    assert choose_tool(configuration).name == "uv"
    configuration.write_text("[global]\nextra-index-url=https://www.piwheels.org/simple\n")
    assert choose_tool(configuration).name == "pip"
    configuration.write_text("nonsense")
    assert choose_tool(configuration).name == "pip"
    monkeypatch.setattr(environment, "find_tool", lambda name: "")
    assert choose_tool(tmp_path / "nothing").name == "pip"


@pytest.fixture
def commands(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The commands that a tool would run."""
    noted: list[list[str]] = []

    def run(command: Sequence[str], directory: Path, name: str = "") -> str:
        noted.append(list(command))
        return ""

    monkeypatch.setattr(environment, "run", run)
    return noted


@pytest.mark.parametrize("tool", [Uv("/usr/bin/uv"), Pip()], ids=lambda tool: tool.name)
def test_a_wheelhouse_is_the_only_source_and_nothing_is_built_or_cached(
    tool: Tool, commands: list[list[str]], tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    plan = Plan(PYTHON, None, ("smbus2>=0.4",), wheelhouse=Path("/wheels"), constraints=Path("/limits.txt"))
    tool.create(plan, tmp_path)
    tool.install(plan, tmp_path, ["/x/hwloop.whl", "smbus2>=0.4"])
    created, installed = commands
    assert str(PYTHON.executable) in created
    assert "--system-site-packages" not in created
    for words in (["--no-index", "--find-links", "/wheels"], ["--constraint", "/limits.txt"]):
        position = installed.index(words[0])
        assert installed[position : position + len(words)] == words
    assert installed[-2:] == ["/x/hwloop.whl", "smbus2>=0.4"]
    assert {"--no-build", "--only-binary=:all:"} & set(installed)
    assert {"--no-cache", "--no-cache-dir"} & set(installed)
    plan = Plan(PYTHON, None, system_packages=True)
    tool.create(plan, tmp_path)
    tool.wheel(plan, tmp_path / "project", tmp_path)
    assert "--system-site-packages" in commands[2]
    assert "--no-index" not in commands[3]
    assert str(tmp_path / "project") == commands[3][-1]


def test_another_part_makes_another_key() -> None:
    hwloop = Wheel("hwloop-1-py3-none-any.whl", "1", b"1")
    usual = Plan(PYTHON, hwloop, ("a",))
    others = [
        Plan(PYTHON, hwloop, ("b",)),
        Plan(PYTHON, None, ("a",)),
        Plan(PYTHON, Wheel("hwloop-1-py3-none-any.whl", "1", b"2"), ("a",)),
        Plan(PYTHON, hwloop, ("a",), project_digest="x"),
        Plan(PYTHON, hwloop, ("a",), constraints_digest="x"),
        Plan(PYTHON, hwloop, ("a",), system_packages=True),
        Plan(PYTHON, hwloop, ("a",), lock=Lock((("a", "a==1 --hash=sha256:0"),))),
        Plan(PYTHON, hwloop, ("a",), generation=1),
        Plan(Interpreter(PYTHON.executable, (3, 11, 3), PYTHON.library, PYTHON.abi), hwloop, ("a",)),
    ]
    assert len({plan.key for plan in [usual, *others]}) == 1 + len(others)
    assert Plan(PYTHON, hwloop, ("a",), wheelhouse=Path("/x")).key == usual.key  # it changes nothing


def test_an_environment_is_on_the_card_before_its_record_says_that_it_is_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Tool:
        name = "tool"

        def create(self, plan: Plan, directory: Path) -> None:
            (directory / "bin").mkdir()
            (directory / "bin/python").touch()

    steps: list[object] = []
    directory = tmp_path / "srv/environment"
    monkeypatch.setattr(environment, "run", lambda *arguments: "[]")
    monkeypatch.setattr(os, "sync", lambda: steps.append((is_complete(directory), (directory / "bin/hwloop").exists())))
    EnvironmentBuilder(Layout(tmp_path), Tool).build(Plan(PYTHON, None), directory)  # type: ignore[arg-type]
    assert (steps, is_complete(directory)) == ([(False, True)], True)


# One test for all of it, since making environments takes seconds.
@pytest.mark.slow
def test_a_service_is_installed_from_a_wheelhouse_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    wheelhouse, image = tmp_path / "wheels", tmp_path / "image"
    wheelhouse.mkdir()
    (image / "etc").mkdir(parents=True)
    for name in ("gpiozero", "lgpio", "gpiod", "pyserial", "smbus2"):
        versions = {"gpiozero": "2.0", "lgpio": "0.2.2.0", "gpiod": "2.2", "pyserial": "3.5", "smbus2": "0.5"}
        wheel(wheelhouse, name, versions[name])
    wheel(wheelhouse, "doorbell", **{"doorbell.py": "SOUND = 'ding'\n"})
    program = tmp_path / "door.py"
    program.write_text(
        '# /// script\n# dependencies = ["doorbell"]\n# ///\nimport doorbell\nasync def main(): print(doorbell.SOUND)\n'
    )
    python = inspect(sys.executable)
    inside = image / python.executable.lstrip("/")
    inside.parent.mkdir(parents=True)
    shutil.copy(python.executable, inside)
    monkeypatch.delenv("PIP_CONSTRAINT", raising=False)  # of the tests' own installation
    monkeypatch.setattr("hwloop.deployment.visibility.HIDDEN", ())  # the Python of the tests may be anybody's
    monkeypatch.setattr("hwloop.deployment.visibility.Visibility.obstacle", lambda *arguments, **options: "")
    monkeypatch.setattr("hwloop.cli.service.SystemAccounts", lambda layout: NoAccounts())

    from hwloop.cli import main

    words = ["service", "install", str(program), "--root", str(image), "--wheelhouse", str(wheelhouse)]
    before = os.umask(0o077)
    try:
        assert main(words) == 0, capfd.readouterr()
    finally:
        os.umask(before)
    home = image / "opt/hwloop/services/door"
    [made] = home.glob("environment-*")
    assert is_complete(made)
    assert "doorbell==1.0" in json.loads((made / "environment.json").read_text())["packages"]
    unreadable = [path for path in made.rglob("*") if not path.is_symlink() and not path.stat().st_mode & 0o004]
    assert unreadable == []
    holding = [path for path in made.rglob("*") if path.is_file() and not path.is_symlink() and path.suffix != ".pyc"]
    assert [path for path in holding if str(image).encode() in path.read_bytes()] == []
    assert not list(home.glob(".build-*"))

    # As the image would start it, but for the place of the image.
    start = (home / "release-1/hwloop-door.service").read_text().partition("ExecStart=")[2].splitlines()[0].split()
    command = [made / "bin/python", str(image) + start[0], "run", str(image) + start[2]]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "ding\n"), done.stderr

    # A package that the wheelhouse lacks changes nothing, and pip says which one it is.
    program.write_text(program.read_text().replace('["doorbell"]', '["doorbell", "gong"]'))
    assert main(words) == 1
    assert "gong" in capfd.readouterr().err
    assert [path.name for path in home.glob("environment-*")] == [made.name]
    assert os.readlink(home / "current") == "release-1"

    # A project is built without a network too, with a backend of its own.
    project = tmp_path / "project"
    project.mkdir()
    (project / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "gate"\nversion = "1.0"\n'
    )
    built = wheel(tmp_path, "gate", **{"gate.py": "async def main(): print('gate')\n"})
    (project / "backend.py").write_text(
        "import shutil\n"
        f"def build_wheel(directory, *_): return shutil.copy({str(built)!r}, directory).rpartition('/')[2]\n"
    )
    words[2] = str(project)
    assert main(words) == 0, capfd.readouterr()
    unit = (image / "etc/systemd/system/hwloop-gate.service").read_text()
    assert "/bin/hwloop run -m gate\n" in unit
    assert sorted(path.name for path in project.iterdir()) == ["backend.py", "pyproject.toml"]  # as it was


class NoAccounts:
    """Accounts of an image that are there already."""

    def add(self, user: str, groups: Sequence[str]) -> list[str]:
        return []

    def remove_added(self) -> list[str]:
        return []


class PipWithScriptsOfUv(Pip):
    """pip, for an environment in which uv has put one script more."""

    def create(self, plan: Plan, directory: Path) -> None:
        super().create(plan, directory)
        (directory / "bin/activate.bat").touch()


@pytest.mark.slow
def test_a_locked_environment_has_the_packages_of_the_lock_and_no_others(tmp_path: Path) -> None:
    wheelhouse, made = tmp_path / "wheels", tmp_path / "opt/hwloop/services/door/environment-1"
    wheelhouse.mkdir()
    bell = wheel(wheelhouse, "doorbell")
    wheel(wheelhouse, "doorbell", "2.0")
    own = wheel(tmp_path, "hwloop")
    lock = tmp_path / "requirements.lock"
    lock.write_text(
        f"hwloop==0.1 --hash=sha256:{64 * '0'}\n"  # of the index; the one that installs takes its place
        f"Doorbell==1.0 \\\n    --hash=sha256:{hashlib.sha256(bell.read_bytes()).hexdigest()}  # of door.py\n"
    )
    plan = Plan(
        inspect(sys.executable),
        Wheel(own.name, "1.0", own.read_bytes()),
        ("doorbell",),
        wheelhouse=wheelhouse,
        lock=read_lock(lock),
    )
    builder = EnvironmentBuilder(Layout(tmp_path), PipWithScriptsOfUv)
    builder.build(plan, made)
    assert not list(made.glob("bin/activate*"))
    assert {"doorbell==1.0", "hwloop==1.0"} <= set(packages_of(made))
    bell.write_bytes(wheel(tmp_path, "doorbell", **{"doorbell.py": "import os"}).read_bytes())
    with pytest.raises(CommandError, match=r"(?i)hash"):
        builder.build(plan, made)


@pytest.mark.slow
def test_an_environment_that_sees_the_system_has_a_launcher_of_its_own(tmp_path: Path) -> None:
    """Debian's hwloop puts its command into /usr/bin alone."""
    made = tmp_path / "opt/hwloop/services/door/environment-1"
    builder = EnvironmentBuilder(Layout(tmp_path), Pip)
    builder.build(Plan(inspect(sys.executable), None, system_packages=True), made)
    text = (made / "bin/hwloop").read_text()
    assert text.startswith("#!/opt/hwloop/services/door/environment-1/bin/python\n")
    assert "from hwloop.cli import script" in text
    assert "include-system-site-packages = true" in (made / "pyvenv.cfg").read_text()
