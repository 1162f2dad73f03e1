"""The unit of a service: its text, the quoting of values from outside, and `hwloop unit`."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwloop.cli import main
from hwloop.deployment import devices
from hwloop.deployment.quoting import check_name, check_user, name_from, setting, word
from hwloop.deployment.unit import Unit, render

ROOT = Path(__file__).parents[2]
GPIO = devices.named(["gpio"])


def unit(**changes: object) -> Unit:
    values: dict[str, object] = {
        "name": "door",
        "program": "door.py",
        "hwloop": "/opt/hwloop/bin/hwloop",
        "arguments": ("/opt/door/door.py",),
        "devices": GPIO,
    }
    return Unit(**(values | changes))  # type: ignore[arg-type]


def lines_of(text: str) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith(("#", "[")):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def unquoted(command: str) -> list[str]:
    """Return the words of a command line as systemd reads it, after systemd.syntax(7) and systemd.service(5)."""
    words: list[str] = []
    for match in re.finditer(r'"((?:[^"\\]|\\.)*)"|(\S+)', command):
        raw = re.sub(rb"\\(x[0-9a-f]{2}|.)", _escape, (match[1] if match[1] is not None else match[2]).encode())
        words.append(raw.decode().replace("%%", "%").replace("$$", "$"))
    return words


def _escape(match: re.Match[bytes]) -> bytes:
    return bytes([int(match[1][1:], 16)]) if len(match[1]) == 3 else match[1]


def test_the_program_starts_with_its_arguments_and_its_outputs_are_made_safe_after_it() -> None:
    lines = lines_of(unit(arguments=("/opt/door/door.py", "--board", "sim")).text())
    assert lines["ExecStart"] == ["/opt/hwloop/bin/hwloop run /opt/door/door.py --board sim"]
    assert lines["ExecStopPost"] == ["-/opt/hwloop/bin/hwloop guard --after %t/hwloop/door/outputs"]
    assert "HWLOOP_GUARD_FILE=%t/hwloop/door/outputs" in lines["Environment"]
    assert lines["Type"] == ["notify"]
    assert lines["User"] == ["hwloop"]
    assert "2" in lines["RestartPreventExitStatus"][0].split()


@pytest.mark.parametrize(
    "argument", ["a b", "%i", "$HOME", "${HOME}", '"', "\\", "x\ny", "ünï", ";", "", "'", "\x7f", "a\u00a0b", "$$%%"]
)
def test_no_argument_can_become_anything_else(argument: str) -> None:
    text = unit(arguments=("/opt/door.py", "--", argument, "last")).text()
    [command] = lines_of(text)["ExecStart"]
    assert unquoted(command) == ["/opt/hwloop/bin/hwloop", "run", "/opt/door.py", "--", argument, "last"]
    assert " ; " not in command  # alone, it would begin another command
    assert len(text.splitlines()) == len(unit().text().splitlines())


@pytest.mark.parametrize("argument", ["a\0b", "\udcff"])
def test_an_argument_that_no_unit_can_hold_raises(argument: str) -> None:
    with pytest.raises(ValueError, match=r"zero byte|not valid UTF-8"):
        unit(arguments=(argument,)).text()


def test_a_command_with_a_path_that_systemd_would_read_differently_raises() -> None:
    with pytest.raises(ValueError, match="can't start a command with such a path"):
        unit(hwloop="/opt/my programs/hwloop").text()


def test_a_description_stays_on_its_line_and_has_no_specifiers() -> None:
    assert setting("100 %i\nUser=root") == "100 %%i User=root"
    assert word("50%") == "50%%"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "-x", "a@b", "a b", "x" * 41, "dör", "a\n", "a.service", "%i"])
def test_a_name_that_could_be_a_path_an_option_or_a_unit_raises(name: str) -> None:
    with pytest.raises(ValueError, match="can't be the name of a service"):
        check_name(name)


@pytest.mark.parametrize("user", ["root", "", "Door;rm", "-x", "a b", "0"])
def test_a_user_that_no_service_should_have_raises(user: str) -> None:
    with pytest.raises(ValueError, match=r"can't be the name of a user|does not run as root"):
        check_user(user)


def test_the_name_of_a_service_comes_from_that_of_its_program() -> None:
    assert name_from("Weather Station!") == "weather-station"
    assert name_from("door_alarm") == "door_alarm"
    with pytest.raises(ValueError, match="can't be the name"):
        name_from("…")


def test_a_template_repeats_lists_and_leaves_out_what_does_not_apply() -> None:
    template = "a=@one@\n@if flag\nb=1\n@else\nb=2\n@end\nc=@many@ rw\n@if one\n@if flag\nd\n@end\n@end"
    assert render(template, {"one": "@many@", "flag": False, "many": ("x", "y")}) == "a=@many@\nb=2\nc=x rw\nc=y rw\n"
    with pytest.raises(KeyError):
        render("a=@other@", {})


def test_real_time_and_a_dynamic_user_change_their_lines_only() -> None:
    usual, other = lines_of(unit().text()), lines_of(unit(realtime=50, user="").text())
    changed = {key for key in usual.keys() | other.keys() if usual.get(key) != other.get(key)}
    assert changed >= {"LimitRTPRIO", "LimitMEMLOCK", "LimitRTTIME", "User", "DynamicUser"}
    assert other["LimitRTPRIO"] == ["50"]
    assert other["DynamicUser"] == ["yes"]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "door.py"
    path.write_text("from hwloop import gpio\nasync def main(): pass\n")
    return path


def test_the_command_prints_the_unit_of_a_program(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unit", "door.py:main", "--realtime", "20", "--start-timeout", "90", "--", "%x"]) == 0
    lines = lines_of(capsys.readouterr().out)
    assert lines["ExecStart"][0].endswith(f"/hwloop run {program}:main --realtime 20 -- %%x")
    assert lines["DeviceAllow"] == ["char-gpiochip rw"]
    assert lines["SupplementaryGroups"] == ["gpio"]
    assert lines["TimeoutStartSec"] == ["90"]


def test_the_unit_of_a_directory_shows_the_devices_of_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "__main__.py").write_text("import lamp\nasync def main(): pass\n")
    (tmp_path / "lamp.py").write_text("from hwloop import spi\n")
    assert main(["unit", str(tmp_path), "--name", "lamp"]) == 0
    lines = lines_of(capsys.readouterr().out)
    assert lines["SupplementaryGroups"] == ["spi"]
    assert lines["ExecStart"][0].endswith(f" run {tmp_path}")


def test_a_unit_whose_program_the_service_can_not_see_comes_with_a_note(
    program: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["unit", "door.py"]) == 0
    if str(program).startswith("/tmp/"):
        assert f"note: {program} is below /tmp, which services can't see" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["door.py", "--name", "../x"], "'../x' can't be the name of a service"),
        (["door.py", "--user", "root"], "a service does not run as root"),
        (["door.py", "--device", "gpoi"], "'gpoi' is no device; use gpio, i2c"),
        (["door.py", "--device", "/dev/../etc/passwd"], "is no device"),
        (["door.py", "--device", "none.toml"], "none.toml"),
        (["door.py", "--realtime", "100"], "a priority is 1 to 99"),
        (["door.py", "--start-timeout", "nan"], "a start takes 1 to 86400 seconds"),
        (["door.py", "--user", "x", "--dynamic-user"], "not allowed with argument"),
        (["dor.py"], "dor.py: no such file or directory; give a Python file"),
        (["….py"], "add one: --name NAME"),
        (["door.py", "--name", ""], "'' can't be the name of a service"),
        (["."], "has no __main__.py to run; install a project: hwloop service install ."),
    ],
)
def test_wrong_arguments_say_what_is_right(
    program: Path, arguments: list[str], problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["unit", *arguments]) == 2
    printed = capsys.readouterr()
    assert problem in printed.err
    assert printed.out == ""


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ("door.py --board nope.toml", "nope.toml: No such file or directory"),
        ("door.py --board mistyped.toml", "unknown type 'ledd'; did you mean led?"),
        ("door.py:nope", "door.py: there is no coroutine function 'nope' in it"),
        ("door.py:plain", "door.py: there is no coroutine function 'plain' in it"),
    ],
)
def test_a_unit_that_could_not_start_is_not_printed(
    program: Path, capsys: pytest.CaptureFixture[str], arguments: str, problem: str
) -> None:
    Path("mistyped.toml").write_text('[[device]]\ntype = "ledd"\nline = 17\n')
    program.write_text(program.read_text() + "def plain(): pass\n")
    assert main(["unit", *arguments.split()]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert problem in printed.err


@pytest.mark.parametrize(
    ("arguments", "text", "note"),
    [
        (
            "--board smi",
            "async def main(): pass",
            "no package that is installed here has a board 'smi', which",
        ),
        (
            "",
            "async def other(): pass",
            "door.py starts nothing and has no 'async def main():', so",
        ),
        ("", "def main(): pass", "door.py starts nothing and has no 'async def main():'"),
        ("", "from door_app import main", ""),
        ("", "from door_app import *", ""),
        ("", "import door_app\ndoor_app.run()", ""),
        ("", "main = make()", ""),
        ("", "@wrapped\ndef main(): pass", ""),
        ("", "globals()['main'] = make()", ""),
        ("", "if True:\n    async def main(): pass", ""),
        ("", "def set():\n    global main\n    main = 5", ""),
        ("--board auto", "async def main(): pass", ""),
        ("", "from gpiozero import LED\nLED(17).on()", "drives by gpiozero have no safe level: when it is killed or"),
    ],
)
def test_a_unit_that_may_not_start_comes_with_a_note(
    program: Path, capsys: pytest.CaptureFixture[str], arguments: str, text: str, note: str
) -> None:
    program.write_text(f"{text}\n")
    assert main(["unit", "door.py", *arguments.split()]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("#")
    notes = [line for line in printed.err.splitlines() if "service install puts copies" not in line]
    assert len(notes) == bool(note)
    assert note in "".join(notes)


def test_a_unit_says_which_outputs_stay_as_they_are() -> None:
    comment = "# Outputs that it drives by gpiozero have no safe level, and stay as they are: docs/guard.md.\n"
    assert comment in unit(unguarded={"gpiozero"}).text()
    assert "stay as they are" not in unit().text()


def test_a_program_on_a_simulated_board_may_open_no_device(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unit", "door.py", "--board", "sim"]) == 0
    lines = lines_of(capsys.readouterr().out)
    assert "DeviceAllow" not in lines
    assert lines["DevicePolicy"] == ["closed"]


def test_a_board_file_names_the_devices_of_its_parts(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("board.toml").write_text('[[device]]\ntype = "bme280"\n[[device]]\ntype = "gps"\nport = "/dev/ttyAMA0"\n')
    assert main(["unit", "door.py", "--device", "board.toml", "--device", "/dev/spidev0.0"]) == 0
    assert lines_of(capsys.readouterr().out)["SupplementaryGroups"] == ["i2c dialout spi"]


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: apt install systemd)"
)
def test_systemd_finds_no_mistake_in_any_form_of_the_unit(tmp_path: Path) -> None:
    every = devices.named([*devices.KINDS, "/dev/watchdog"])
    paths = []
    for number, (user, realtime) in enumerate([("hwloop", 0), ("", 60)]):
        made = unit(
            name=f"door{number}",
            hwloop=shutil.which("true"),
            devices=every,
            user=user,
            realtime=realtime,
            guarded=True,
            mounts=("/opt/a b", "/usr"),
        )
        for name, text in made.files().items():
            paths.append(tmp_path / name)
            paths[-1].write_text(text, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *paths], capture_output=True, text=True)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: apt install systemd)"
)
def test_the_check_prints_mistakes_and_the_exposure(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["unit", "door.py", "--check"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("verify: no mistakes\nsecurity of hwloop-door.service:\n")
    assert "Overall exposure level for hwloop-door.service" in printed


def test_a_service_and_its_guardian_have_the_same_user() -> None:
    """Only this user may use the guardian's socket."""
    for made in (unit(guarded=True), unit(guarded=True, user=""), unit(guarded=True, user="", name="Door" * 10)):
        service, guardian = (lines_of(text) for text in made.files().values())
        assert service["User"] == guardian["User"]
        assert service.get("DynamicUser") == guardian.get("DynamicUser")
        assert len(check_user(service["User"][0])) <= 31
    assert list(unit().files()) == ["hwloop-door.service"]


def test_the_unit_of_a_guardian_is_printed_on_demand(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program.write_text("from hwloop import gpio\nasync def main(): gpio.output(27, keep=True)\n")
    assert main(["unit", "door.py"]) == 0
    printed = capsys.readouterr()
    assert "Wants=hwloop-guard@door.service\n" in printed.out
    assert "the outputs with keep=True need a guardian, hwloop-guard@door.service; to print its unit: " in printed.err
    assert main(["unit", "door.py", "--guardian"]) == 0
    assert "hwloop guard --listen %t/hwloop-guard/door/socket\n" in capsys.readouterr().out


def test_a_unit_has_no_network_unless_the_program_wants_it() -> None:
    without, granted = lines_of(unit().text()), lines_of(unit(network="it imports aiomqtt").text())
    assert (without["PrivateNetwork"], without["RestrictAddressFamilies"]) == (["yes"], ["AF_UNIX"])
    assert without.keys() - granted.keys() == {"PrivateNetwork", "IPAddressDeny"}
    assert granted["RestrictAddressFamilies"] == ["AF_UNIX AF_INET AF_INET6 AF_NETLINK"]
    assert "# The network, because it imports aiomqtt.\n" in unit(network="it imports aiomqtt").text()


def test_the_options_for_the_network_come_before_the_text(program: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program.write_text("import aiohttp\nasync def main(): pass\n")
    for options, has_network in ([], True), (["--no-network"], False), (["--network"], True):
        assert main(["unit", "door.py", *options]) == 0
        assert ("PrivateNetwork=yes" not in capsys.readouterr().out) is has_network


@pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (Debian: apt install systemd)"
)
@pytest.mark.parametrize(
    ("changes", "most"),
    [({}, 0.6), ({"user": ""}, 0.6), ({"network": "x"}, 1.5), ({"network": "x", "realtime": 50}, 1.5)],
)
def test_the_exposure_of_every_form_of_the_unit_is_low(changes: dict[str, object], most: float, tmp_path: Path) -> None:
    made = unit(devices=devices.named(devices.USUAL), guarded=True, **changes)
    for name, text in made.files().items():
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        rated = subprocess.run(
            ["systemd-analyze", "security", "--offline=true", "--no-pager", path], capture_output=True, text=True
        ).stdout
        found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", rated)
        assert found, rated
        assert float(found[1]) <= most


def test_the_documentation_explains_each_line_of_the_unit() -> None:
    sections = [("service.md", "## The unit\n"), ("hardening.md", "## The lines\n")]
    pages = [
        (ROOT / "docs" / page).read_text(encoding="utf-8").partition(heading)[2].partition("\n## ")[0]
        for page, heading in sections
    ]
    explained = set(re.findall(r"([A-Za-z]+)=", "".join(re.findall(r"^\| (.*?) \|", "\n".join(pages), re.MULTILINE))))
    every = unit(guarded=True, realtime=50, reloads=True, user="").text() + unit().text()
    assert lines_of(every).keys() - explained == {"Description"}
    assert explained - lines_of(every).keys() == set()


def test_each_protection_is_tried_under_systemd() -> None:
    tried = (ROOT / "tests" / "kernel" / "test_hardened_service.py").read_text(encoding="utf-8")
    protections = unit().text().partition("docs/hardening.md.\n")[2].partition("[Install]")[0]
    keys = lines_of(protections).keys()
    assert len(keys) > 20
    assert [key for key in keys if f'"{key}"' not in tried] == []


def test_the_unit_is_a_valid_file_of_sections() -> None:
    parser = configparser.RawConfigParser(strict=False)
    parser.read_string(unit().text())
    assert parser.sections() == ["Unit", "Service", "Install"]
