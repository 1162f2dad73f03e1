"""`hwloop service`: its commands, what they print, and arguments that they reject."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from machine import FAILED, PYTHON, UP, Machine

import hwloop.cli.service as command
from hwloop.cli import main
from hwloop.deployment import interpreter
from hwloop.deployment.interpreter import Interpreter
from hwloop.deployment.own_wheel import Wheel
from hwloop.deployment.starting import Starter
from hwloop.deployment.systemctl import OfflineSystemctl, State, SystemctlError
from hwloop.deployment.visibility import Visibility


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """A machine to which the command goes, with `--root` of its directory; its systemd runs."""
    root = tmp_path / "machine"
    root.mkdir()
    made = Machine(root)
    monkeypatch.setattr(command, "OfflineSystemctl", lambda layout: made.systemctl)
    monkeypatch.setattr(command, "SystemAccounts", lambda layout: made.accounts)
    monkeypatch.setattr(command, "EnvironmentBuilder", lambda layout: made.builder)
    monkeypatch.setattr("hwloop.deployment.starting.SETTLING", 0.0)
    monkeypatch.setattr(
        "hwloop.cli.service_install.pack_own_wheel", lambda: Wheel("hwloop-1-py3-none-any.whl", "1", b"")
    )
    monkeypatch.setattr(interpreter, "inspect", lambda python: PYTHON)
    monkeypatch.setattr(interpreter, "missing_in_image", lambda python, root: "")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "door.py").write_text("from hwloop import gpio\nasync def main(): pass\n")
    (tmp_path / "injecting.py").write_text("# /// script\n# dependencies = ['--target=/']\n# ///\n")
    (tmp_path / "uv.py").write_text("# /// script\n# [tool.uv.sources]\n# x = {path = '/x'}\n# ///\n")
    return made


def call(machine: Machine, action: str, *words: str) -> int:
    return main(["service", action, "--root", str(machine.root), *words])


def test_an_installation_and_its_repetition(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(machine, "install", "door.py") == 0
    assert "door: ready after " in capsys.readouterr().out
    assert call(machine, "install", "door.py") == 0
    assert capsys.readouterr().out == "door: installed already, exactly so; nothing changed\n"
    machine.systemctl.now = FAILED
    call(machine, "install", "door.py")
    assert capsys.readouterr().out.endswith("nothing changed; it is failed: hwloop service status door\n")


def test_every_option_reaches_the_unit(machine: Machine, tmp_path: Path) -> None:
    (tmp_path / "board.toml").write_text('[[device]]\ntype = "gps"\nport = "/dev/ttyAMA0"\nlog = "drive.nmea"\n')
    (tmp_path / "drive.nmea").write_text("$GPRMC,")
    (tmp_path / "sounds").mkdir()
    (tmp_path / "sounds" / "ding.wav").write_text("")
    options = "--name front --board board.toml --realtime 30 --dynamic-user --start-timeout 90 --device spi"
    packages = "--include sounds --with smbus2 --system-site-packages"
    assert call(machine, "install", "door.py:main", *options.split(), *packages.split(), "--", "--verbose", "a b") == 0
    unit = machine.unit("front")
    files = "/opt/hwloop/services/front/release-1/program"
    assert f'{files}/door.py:main --board {files}/board.toml --realtime 30 -- --verbose "a b"\n' in unit
    for line in ("DynamicUser=yes", "TimeoutStartSec=90", "LimitRTPRIO=30", "DeviceAllow=char-spi rw"):
        assert f"{line}\n" in unit
    installed = machine.layout.service("front").release(1) / "program"
    assert sorted(path.relative_to(installed).as_posix() for path in installed.rglob("*") if path.is_file()) == [
        "board.toml", "door.py", "drive.nmea", "sounds/ding.wav",
    ]  # fmt: skip
    [plan] = machine.builder.built
    assert (plan.requirements, plan.system_packages) == (("smbus2",), True)


def test_an_upgrade_looks_for_newer_packages_and_is_then_the_version(machine: Machine) -> None:
    call(machine, "install", "door.py")
    machine.builder.packages = ["smbus2==2"]
    call(machine, "install", "door.py", "--upgrade")
    call(machine, "install", "door.py")
    assert [plan.generation for plan in machine.builder.built] == [0, 1]
    assert machine.services.current("door").number == 2  # type: ignore[union-attr]


def test_an_upgrade_without_newer_packages_changes_nothing(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    call(machine, "install", "door.py")
    before, calls = machine.files(), list(machine.systemctl.calls)
    assert call(machine, "install", "door.py", "--upgrade") == 0
    assert "door: there are no newer packages\n" in capsys.readouterr().out
    assert machine.files() == before
    assert machine.systemctl.calls == calls
    Path("door.py").write_text("async def main(): ...\n")  # with a new program they are taken all the same
    call(machine, "install", "door.py", "--upgrade")
    assert machine.services.current("door").number == 2  # type: ignore[union-attr]


def test_a_script_without_a_loop_has_no_watchdog(machine: Machine) -> None:
    Path("door.py").write_text("import time\nwhile True: time.sleep(1)\n")
    call(machine, "install", "door.py")
    assert "WatchdogSec=0\n" in machine.unit()


def test_an_installation_notes_outputs_without_a_safe_level_once(
    machine: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("door.py").write_text("from gpiozero import LED\nLED(17).on()\n")
    for noted in (True, False):  # the second time nothing changes
        call(machine, "install", "door.py")
        assert ("service: note: outputs that the program drives by gpiozero" in capsys.readouterr().err) is noted
    assert "# Outputs that it drives by gpiozero have no safe level" in machine.unit()


def test_debug_shows_the_traceback_wherever_it_stands(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(machine, "uninstall", "door", "--debug") == 1
    assert "Traceback" in capsys.readouterr().err
    assert call(machine, "uninstall", "door") == 1
    assert "Traceback" not in capsys.readouterr().err


def test_a_failed_upgrade_says_why_and_has_status_1(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    call(machine, "install", "door.py")
    Path("door.py").write_text("from hwloop import gpio\nasync def main(): 1 / 0\n")
    machine.systemctl.outcomes = [FAILED]
    assert call(machine, "install", "door.py") == 1
    assert capsys.readouterr().err == (
        "hwloop service: door: the new version ended with status 1; its last lines:\n    Traceback …\n"
        "    ValueError: no sensor\nwent back to the version before it: release 1 runs again\n"
    )


def test_the_list_and_the_status_of_services(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(machine, "list") == call(machine, "status") == 0
    assert capsys.readouterr().out.count("no services; to install one") == 2
    call(machine, "install", "door.py")
    call(machine, "install", "door.py", "--name", "gate")
    capsys.readouterr()
    assert call(machine, "list") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["NAME", "STATE", "PROGRAM", "RELEASE", "PYTHON", "HWLOOP"]
    assert lines[1].split() == ["door", "active", "door.py", "1", "3.11.2", "1"]
    assert len(lines) == 3
    machine.systemctl.now = UP._replace(text="door open", memory=3 << 20, restarts=2, since="today")
    assert call(machine, "status", "door") == 0
    printed = capsys.readouterr().out
    assert printed.startswith(
        "door: active since today (3.0 MB, restarted 2 times by systemd)\n    door open\n    door.py,"
    )
    machine.systemctl.now = FAILED
    assert call(machine, "status") == 1
    printed = capsys.readouterr().out
    assert "it ended with status 1; its last lines:\n        Traceback …\n" in printed
    assert "to start it again: sudo hwloop service restart door\n" in printed
    assert call(machine, "status", "--json") == 1
    found = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in found] == ["door", "gate"]
    assert {"unit", "active", "result", "program", "number", "python", "ready"} < found[0].keys()
    assert call(machine, "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == found
    assert call(machine, "status", "garage") == 1
    assert "there is no service garage; installed are: door, gate" in capsys.readouterr().err


def test_a_service_that_was_never_there_is_no_reason_to_leave_directories(machine: Machine) -> None:
    (machine.root / "opt").mkdir()
    assert call(machine, "uninstall", "door") == call(machine, "rollback", "door") == 1
    assert machine.files() == ["opt"]


def test_going_back_and_removing(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    call(machine, "install", "door.py")
    Path("door.py").write_text("from hwloop import gpio\nasync def main(): ...\n")
    call(machine, "install", "door.py")
    assert call(machine, "rollback", "door") == 0
    assert "release-1/program" in machine.unit()
    capsys.readouterr()
    assert call(machine, "uninstall", "door") == 0
    assert "removed /etc/systemd/system/hwloop-door.service\n" in capsys.readouterr().out
    assert call(machine, "uninstall", "door") == 1
    assert "there is no service door; installed are: none" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        ("install", "the following arguments are required: PROGRAM"),
        ("install missing.py", "missing.py: no such file or directory"),
        ("install door.py --name a/b", "'a/b' can't be the name of a service"),
        ("install door.py --name root --user root", "a service does not run as root"),
        ("install door.py --with -x", "argument --with: expected one argument"),
        ("install door.py --with=-rx", "'-rx' is no file, and no requirement"),
        ("install door.py --wheelhouse .", "there are no wheels in it; make them with: pip wheel"),
        ("install door.py --constraint missing", "missing: no such file"),
        ("install door.py --include /etc/passwd", "it must be below"),
        ("install door.py --include .", "it must be below"),
        ("install door.py --include link", "leads out of"),
        ("install door.py --include link/passwd", "leads out of"),
        ("install door.py --lock missing", "missing: no such file"),
        ("install door.py --lock door.py", "is no package with its version (==) and hashes"),
        ("install door.py --lock lock --constraint lock", "--lock has all versions already; leave out --constraint"),
        ("install door.py --lock lock --with aiohttp", "the lock has no aiohttp, which the program needs"),
        ("install project --lock lock", "would be built by tools that no lock has; install its wheel instead"),
        ("install door.py --entry x", "--entry is for projects and packages"),
        ("install some-package --include door.py", "--include is for a program in a file"),
        ("install door.py --board missing.toml", "missing.toml: no such file"),
        ("install ….py", "….py: no such file"),
        ("install missing.whl", "missing.whl: there is no such file or directory"),
        ("install injecting.py", "'--target=/' is no file, and no requirement"),
        ("install uv.py", "[tool.uv.sources] is not used here; write the address into the dependency"),
        ("fly", "invalid choice: 'fly'"),
        ("uninstall ../x", "'../x' can't be the name of a service"),
        ("rollback door --root /nowhere", "argument --root: there is no directory '/nowhere'"),
        ("list --root=", "argument --root: there is no directory ''"),
        ("install door.py --name=", "'' can't be the name of a service"),
    ],
)
def test_wrong_arguments_change_nothing(
    machine: Machine, words: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("link").symlink_to("/etc")
    Path("lock").write_text(f"smbus2==0.5 --hash=sha256:{64 * '0'}\n")
    Path("project").mkdir()
    Path("project/pyproject.toml").write_text('[project]\nname = "gate"\n')
    action, *rest = words.split()
    assert call(machine, action, *rest) == 2
    printed = capsys.readouterr()
    assert problem in printed.err
    assert machine.files() == []


@pytest.mark.parametrize("name", ["-rf.py", "a b.py", "$(reboot).py", "`x`.py", "%n.py", "é;x.py", "x\nUser=root.py"])
def test_a_program_with_a_hostile_name_is_installed_as_a_harmless_service(machine: Machine, name: str) -> None:
    Path(name).write_text("from hwloop import gpio\nasync def main(): pass\n")
    assert call(machine, "install", "--name", "safe", "--", f"./{name}") in (0, 2)
    assert call(machine, "install", f"./{name}", "--name", "safe") == 0
    unit = machine.unit("safe")
    assert len([line for line in unit.splitlines() if line.startswith("User=")]) == 1
    assert "Description=safe: " in unit
    assert {path.name for path in machine.layout.units.iterdir()} == {"hwloop-safe.service", "multi-user.target.wants"}
    assert sorted(machine.layout.services.iterdir()) == [machine.layout.services / each for each in (".lock", "safe")]


def test_a_program_that_wants_another_python_says_so(machine: Machine, capsys: pytest.CaptureFixture[str]) -> None:
    Path("door.py").write_text("# /// script\n# requires-python = '>=3.13'\n# ///\n")
    assert call(machine, "install", "door.py") == 1
    assert "door.py needs Python >=3.13; /usr/bin/python3.11 is 3.11.2; choose another" in capsys.readouterr().err


def test_a_python_that_the_service_could_not_see_is_rejected(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hidden = Interpreter("/root/.pyenv/bin/python3.11", (3, 11, 7), "/root/.pyenv/lib/python3.11", "")
    monkeypatch.setattr(interpreter, "inspect", lambda python: hidden)
    assert call(machine, "install", "door.py") == 1
    assert capsys.readouterr().err == (
        "hwloop service: a service can't use the Python /root/.pyenv/bin/python3.11: /root/.pyenv/bin/python3.11 is "
        "below /root, which services can't see; choose one that all users have, such as --python /usr/bin/python3 "
        "(on Debian: apt install python3 python3-venv)\n"
    )
    assert machine.files() == []


def test_a_python_that_an_image_lacks_is_rejected(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.undo()
    assert call(machine, "install", str(machine.root.parent / "door.py")) == 1
    assert f"{machine.root} has no /" in capsys.readouterr().err


def test_an_image_needs_a_python_for_the_same_processor(tmp_path: Path) -> None:
    header = bytearray(b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x3e\x00")
    ours, root = tmp_path / "python", tmp_path / "image"
    ours.write_bytes(header)
    python = Interpreter(str(ours), (3, 11, 2), "/usr/lib", "")
    assert interpreter.missing_in_image(python, root).endswith(f"has no {ours}")
    inside = root / str(ours).lstrip("/")
    inside.parent.mkdir(parents=True)
    inside.write_bytes(header)
    assert interpreter.missing_in_image(python, root) == ""
    header[18] = 0xB7  # AArch64
    inside.write_bytes(header)
    assert "for another processor" in interpreter.missing_in_image(python, root)
    inside.unlink()
    inside.symlink_to(ours)  # absolute: it leads to this machine's
    assert "has no" in interpreter.missing_in_image(python, root)


@pytest.mark.parametrize("words", ["uninstall door", "restart door", "rollback door", "install door.py"])
def test_without_root_the_services_of_this_machine_stay_as_they_are(
    words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert main(["service", *words.split()]) == 1
    assert "needs root: use sudo" in capsys.readouterr().err


def test_the_log_is_that_of_the_unit(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    call(machine, "install", "door.py")
    monkeypatch.setattr(command, "Path", lambda path: machine.root)
    assert main(["service", "logs", "door", "--lines", "5", "--follow"]) == 0
    assert machine.systemctl.calls[-1] == "log hwloop-door.service 5 True"
    assert main(["service", "logs", "door", "--lines", "many"]) == 2


def test_a_systemd_that_refuses_is_quoted(
    machine: Machine, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def reload() -> None:
        raise SystemctlError("systemctl daemon-reload: Access denied")

    monkeypatch.setattr(machine.systemctl, "reload", reload)
    assert call(machine, "install", "door.py") == 1
    assert capsys.readouterr().err == "hwloop service: systemctl daemon-reload: Access denied\n"


def test_an_image_has_no_running_services(machine: Machine) -> None:
    offline = OfflineSystemctl(machine.layout)
    offline.enable("hwloop-door.service")
    link = machine.root / "etc/systemd/system/multi-user.target.wants/hwloop-door.service"
    assert os.readlink(link) == "/etc/systemd/system/hwloop-door.service"
    assert offline.restart("hwloop-door.service")
    assert (offline.state("x"), offline.log("x", 1)) == (State(), [])
    with pytest.raises(SystemctlError, match="systemd does not run here"):
        offline.show_log("x", 1, follow=False)
    offline.disable("hwloop-door.service")
    assert not link.parent.exists()


def test_the_starter_waits_until_a_service_has_settled(machine: Machine) -> None:
    waited: list[float] = []
    assert Starter(machine.systemctl, machine.said.append, waited.append).start("door") == ""
    assert waited


def test_an_image_has_mounts_of_its_own(tmp_path: Path) -> None:
    assert Visibility(str(tmp_path)).obstacle("/opt/python") == ""
