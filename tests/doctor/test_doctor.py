"""The doctor's findings about machines whose files lie below a directory of the test."""

from __future__ import annotations

import grp
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

import hwloop
from hwloop import doctor
from hwloop.boards.chip_discovery import ChipInfo
from hwloop.cli import main
from hwloop.core import core_kind
from hwloop.doctor.finding import Finding
from hwloop.doctor.machine import Machine, User
from hwloop.doctor.program import Places, examine, read_needs
from hwloop.errors import HardwareError

ME = User("ada", 4321, {4321, 20}, {4321, 20})
PI = {"proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0", "boot/firmware/config.txt": "# nothing\n"}


class Made(Machine):
    """A machine of some files. `commands` are the outputs of commands that it has."""

    def __init__(
        self,
        root: Path,
        files: Mapping[str, str],
        *,
        user: User = ME,
        chips: list[ChipInfo] | HardwareError | None = None,
        versions: Mapping[str, str] | None = None,
        commands: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(str(root))
        self.user: User = user
        self._chips = [] if chips is None else chips
        self._versions = {"gpiod": "2.5.0", "smbus2": "0.5", "spidev": "3.6"} if versions is None else versions
        self._commands = commands or {}
        for name, text in files.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o666)

    def chips(self) -> list[ChipInfo]:
        if isinstance(self._chips, HardwareError):
            raise self._chips
        return self._chips

    def version(self, package: str) -> str:
        return self._versions.get(package, "")

    def output(self, *command: str) -> str | None:
        return self._commands.get(command[0])


def about(findings: list[Finding], topic: str) -> list[str]:
    return [f"{finding.status}: {finding.text} → {finding.remedy}" for finding in findings if finding.topic == topic]


def text(findings: list[Finding]) -> str:
    return "\n".join(f"{f.status} {f.topic}: {f.text} → {f.remedy}" for f in findings)


def test_a_desktop_has_no_problem(tmp_path):
    findings = doctor.examine(Made(tmp_path, {"dev/ttyS0": ""}))
    assert not [finding for finding in findings if finding.status in ("warning", "problem")]
    assert f"ok: {hwloop.__version__}, {core_kind()} core, on Python 3." in about(findings, "hwloop")[0]
    assert "HWLOOP_BOARD=sim" in text(findings)
    assert "ttyS0" not in text(findings)  # of a PC: there need not be anything behind it


CHIPS = [ChipInfo("/dev/gpiochip0", 0, "pinctrl-bcm2711", 58), ChipInfo("/dev/gpiochip1", 1, "raspberrypi-exp-gpio", 8)]


def test_a_complete_pi_has_no_problem_and_its_devices_are_listed(tmp_path):
    nodes = dict.fromkeys(("dev/gpiochip0", "dev/gpiochip1", "dev/i2c-1", "dev/spidev0.0", "dev/ttyAMA0"), "")
    machine = Made(tmp_path, PI | nodes, chips=CHIPS, commands={"vcgencmd": "throttled=0x0", "systemctl": ""})
    os.symlink("ttyAMA0", tmp_path / "dev/serial0")
    findings = doctor.examine(machine)
    assert not [finding for finding in findings if finding.status in ("warning", "problem")]
    shown = text(findings)
    for part in (
        "Raspberry Pi 4 Model B Rev 1.4",
        "/dev/gpiochip0: pinctrl-bcm2711, 58 lines, the header's",
        "user ada may use /dev/i2c-1",
        "there are /dev/spidev0.0",
        "/dev/ttyAMA0 (serial0, on the header)",
        "no unit has failed",
    ):
        assert part in shown


def test_a_chip_that_may_not_be_opened_names_the_group(tmp_path):
    refusal = HardwareError("/dev/gpiochip0", "permission denied", "add the user to group gpio")
    machine = Made(tmp_path, PI | {"dev/gpiochip0": ""}, chips=refusal)
    assert "problem: /dev/gpiochip0: permission denied → add the user to group gpio" in about(
        doctor.examine(machine), "gpio"
    )


@pytest.mark.parametrize(
    ("user", "mode", "expected"),
    [
        (User("ada", 4321, {4321}, {4321}), 0o660, "is not in group {group} → sudo usermod -aG {group} ada"),
        (User("ada", 4321, {4321, "own"}, {4321}), 0o660, "this session began before that → log out and in again"),
        (User("ada", 4321, {4321, "own"}, {4321, "own"}), 0o600, "has no group that may → "),
    ],
)
def test_the_remedy_for_a_missing_right_is_the_one_that_helps(tmp_path, user, mode, expected):
    # The files belong to the test's own group, which the made user has or lacks.
    group = next(entry for entry in grp.getgrall() if entry.gr_gid not in (0, os.getuid()))
    groups = [{group.gr_gid if each == "own" else each for each in which} for which in (user.groups, user.active)]
    machine = Made(tmp_path, PI | {"dev/i2c-1": ""}, user=User(user.name, user.number, *groups))
    try:
        os.chown(tmp_path / "dev/i2c-1", -1, group.gr_gid)
    except PermissionError:
        pytest.skip("only root may give a file to another group")
    os.chmod(tmp_path / "dev/i2c-1", mode)
    (finding,) = [line for line in about(doctor.examine(machine), "i2c") if line.startswith("problem")]
    assert expected.format(group=group.gr_name) in finding


@pytest.mark.parametrize(
    ("config", "status", "expected"),
    [
        ("", "note", "raspi-config nonint do_i2c 0"),
        ("#dtparam=i2c_arm=on\n", "note", "/boot/firmware/config.txt"),
        ("dtparam=i2c_arm=on\n", "problem", "modprobe i2c-dev"),
        ("[pi4]\ndtparam=audio=on,i2c_arm=on\n", "problem", "enabled in config.txt"),
        ("dtparam=i2c_arm\n", "problem", "sudo reboot"),
        ("dtparam=i2c_arm=on\ndtparam=i2c_arm=off\n", "note", "not enabled"),
    ],
)
def test_a_missing_bus_is_compared_with_config_txt(tmp_path, config, status, expected):
    machine = Made(tmp_path, PI | {"boot/firmware/config.txt": config})
    (finding,) = about(doctor.examine(machine), "i2c")
    assert finding.startswith(status)
    assert expected in finding


def test_config_txt_of_older_systems_is_found_in_boot(tmp_path):
    files = {"proc/device-tree/model": "Raspberry Pi 3", "boot/config.txt": "dtparam=spi=on"}
    assert about(doctor.examine(Made(tmp_path, files)), "spi")[0].startswith("problem")
    os.remove(tmp_path / "boot/config.txt")
    assert about(doctor.examine(Made(tmp_path, {})), "spi")[0].startswith("note")


def test_an_adapter_is_shown_with_the_search_that_finds_it_under_any_name(tmp_path):
    files = {}
    for number, serial_number in ((0, "A1"), (1, "A2"), (2, "")):
        usb = f"sys/devices/usb1/1-1.{number}"
        maker = ("1a86", "7523") if number == 2 else ("0403", "6001")
        texts = {"idVendor": maker[0], "idProduct": maker[1], "serial": serial_number, "product": "UART"}
        files |= {f"{usb}/{key}": text for key, text in texts.items()} | {f"{usb}/1-1:1.0/bInterfaceNumber": "00"}
        files |= {f"{usb}/1-1:1.0/ttyUSB{number}/x": "", f"dev/ttyUSB{number}": ""}
    machine = Made(tmp_path, PI | files)
    (tmp_path / "sys/class/tty").mkdir(parents=True)
    for number in range(3):
        device = tmp_path / f"sys/devices/usb1/1-1.{number}/1-1:1.0/ttyUSB{number}"
        (device / "device").symlink_to(device)
        (tmp_path / f"sys/class/tty/ttyUSB{number}").symlink_to(device)
    shown = about(doctor.examine(machine), "serial")
    for found in (
        "UART (A2); under any name it is serial.find(vendor=0x0403, product=0x6001, serial_number='A2')",
        "UART (no serial number); under any name it is serial.find(vendor=0x1a86, product=0x7523)",
    ):
        assert any(found in line for line in shown)


def test_a_console_on_the_serial_port_is_named_with_the_file_to_change(tmp_path):
    files = PI | {
        "boot/firmware/cmdline.txt": "console=serial0,115200 console=tty1 root=/dev/mmcblk0p2",
        "dev/ttyS0": "",
    }
    machine = Made(tmp_path, files)
    os.symlink("ttyS0", tmp_path / "dev/serial0")
    shown = "\n".join(about(doctor.examine(machine), "serial"))
    assert "warning: the kernel's console is on serial0,115200" in shown
    assert "remove console=serial0,115200 from /boot/firmware/cmdline.txt" in shown
    assert "mini UART" in shown


@pytest.mark.parametrize(
    ("model", "files", "serial0", "expected", "missing"),
    [
        (
            "Raspberry Pi 5 Model B Rev 1.0",
            {"dev/ttyAMA10": "", "boot/firmware/cmdline.txt": "console=serial0,115200"},
            "ttyAMA10",
            ["there are /dev/ttyAMA10 (serial0)", "do_serial_hw 0, or write dtparam=uart0=on into /boot/firmware"],
            ["console"],
        ),
        (
            "Raspberry Pi Compute Module 5 Rev 1.0",
            {"dev/ttyAMA0": "", "dev/ttyAMA10": "", "boot/firmware/cmdline.txt": "console=ttyAMA10,115200"},
            "ttyAMA10",
            ["there are /dev/ttyAMA0 (on the header), /dev/ttyAMA10 (serial0)"],
            ["console", "not enabled"],
        ),
        (
            "Raspberry Pi 500 Rev 1.0",
            {"dev/ttyAMA0": "", "dev/ttyAMA10": "", "boot/firmware/cmdline.txt": "console=serial0,115200"},
            "ttyAMA0",
            ["there are /dev/ttyAMA0 (serial0, on the header), /dev/ttyAMA10", "console is on serial0,115200"],
            ["not enabled"],
        ),
    ],
)
def test_the_headers_serial_port_of_a_pi_5(tmp_path, model, files, serial0, expected, missing):
    machine = Made(tmp_path, PI | {"proc/device-tree/model": model} | files)
    os.symlink(serial0, tmp_path / "dev/serial0")
    shown = "\n".join(about(doctor.examine(machine), "serial"))
    assert [part for part in expected if part not in shown] == [], shown
    assert [part for part in missing if part in shown] == [], shown


def test_the_libraries_of_lines(tmp_path):
    def expected(versions: dict[str, str]) -> str:
        machine = Made(tmp_path, PI | {"dev/gpiochip0": ""}, chips=CHIPS, versions=versions)
        return "\n".join(about(doctor.examine(machine), "gpio"))

    assert "problem: neither gpiod nor lgpio is installed" in expected({})
    assert "lgpio 0.0.0.2 is an empty placeholder" in expected({"lgpio": "0.0.0.2"})
    assert "problem: neither" in expected({"lgpio": "0.0.0.2"})
    assert "interface of libgpiod 1" in expected({"gpiod": "1.5.4"})
    assert "gpiod is quicker" in expected({"lgpio": "0.2.2.0"})
    assert "problem" not in expected({"gpiod": "2.5.0"})


def test_a_pi_5_whose_header_has_another_number_is_mentioned(tmp_path):
    chips = [ChipInfo("/dev/gpiochip4", 4, "pinctrl-rp1", 54)]
    machine = Made(tmp_path, PI | {"dev/gpiochip4": ""}, chips=chips)
    assert any("from 6.6.45 on call it gpiochip0" in line for line in about(doctor.examine(machine), "gpio"))


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ("0x1", "problem: the supply voltage is too low now"),
        ("0x50000", "warning: the supply voltage was too low since the start"),
        ("0x4", "problem: the processor is throttled now"),
        ("0x80000", "warning: the temperature limit was reached since the start"),
    ],
)
def test_throttling_is_read_from_the_firmware(tmp_path, flags, expected):
    machine = Made(tmp_path, PI, commands={"vcgencmd": f"throttled={flags}"})
    assert any(line.startswith(expected) for line in about(doctor.examine(machine), "processor"))


def test_under_voltage_is_read_from_the_kernel_where_vcgencmd_is_missing(tmp_path):
    machine = Made(tmp_path, PI | {"sys/class/hwmon/hwmon1/in0_lcrit_alarm": "1\n"})
    assert any("supply voltage is too low" in line for line in about(doctor.examine(machine), "processor"))


def test_kernel_clock_governor_and_temperature(tmp_path):
    files = PI | {
        "sys/kernel/realtime": "1\n",
        "sys/devices/system/clocksource/clocksource0/current_clocksource": "hpet\n",
        "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
        "sys/class/thermal/thermal_zone0/temp": "81500\n",
        "boot/config-unknown": "CONFIG_HZ_250=y\nCONFIG_HZ=250\n",
    }
    shown = text(doctor.examine(Made(tmp_path, files)))
    assert "PREEMPT_RT, 250 Hz" in shown
    assert "not PREEMPT_RT" not in shown
    assert "warning kernel: the clock source is hpet" in shown
    assert "note processor: the frequency governor is ondemand" in shown
    assert "warning processor: 82 °C" in shown


def test_the_hardware_watchdog_is_fed_or_not(tmp_path):
    machine = Made(
        tmp_path, PI | {"dev/watchdog": "", "etc/systemd/system.conf": "[Manager]\n#RuntimeWatchdogSec=off\n"}
    )
    assert about(doctor.examine(machine), "watchdog")[0].startswith("note: there is a hardware watchdog")
    fed = Made(tmp_path, {"etc/systemd/system.conf.d/watchdog.conf": "[Manager]\nRuntimeWatchdogSec=10\n"})
    assert about(doctor.examine(fed), "watchdog")[0].startswith("ok")


@pytest.mark.parametrize(
    ("mounts", "expected"),
    [
        ("/dev/mmcblk0p2 / ext4 ro,noatime 0 0\n", "mounted read-only"),
        ("overlay / overlay rw,relatime 0 0\n", "an overlay: changes are lost"),
        ("/dev/mmcblk0p2 / ext4 rw,noatime,errors=remount-ro 0 0\n", ""),
        ("broken\n", ""),
    ],
)
def test_a_root_that_keeps_nothing_is_mentioned(tmp_path, mounts, expected):
    found = [
        line for line in about(doctor.examine(Made(tmp_path, PI | {"proc/mounts": mounts})), "disk") if "root" in line
    ]
    assert (expected in found[0]) if expected else not found


@pytest.mark.parametrize(
    ("free", "inodes", "expected"),
    [(0, 10, "problem: the file system of /"), (4, 10, "warning: "), (50, 0, "has no inode left"), (50, 10, "")],
)
def test_full_disks(tmp_path, monkeypatch, free, inodes, expected):
    numbers = os.statvfs_result((4096, 4096, 100, free, free, 10, inodes, inodes, 0, 255))
    machine = Made(tmp_path, PI)
    monkeypatch.setattr(machine, "space", lambda path: numbers if path == "/" else None)
    found = about(doctor.examine(machine), "disk")
    assert (expected in found[0]) if expected else not found


def test_failed_units_and_an_unsynchronized_clock(tmp_path, monkeypatch):
    listed = "hwloop@door.service loaded failed failed hwloop program door\nfoo.service loaded failed failed Foo\n"
    machine = Made(tmp_path, PI, commands={"systemctl": listed, "timedatectl": "no"})
    machine.running = True
    shown = text(doctor.examine(machine))
    assert "problem systemd: hwloop@door.service has failed → journalctl -u hwloop@door.service" in shown
    assert "note systemd: foo.service has failed" in shown
    assert "note clock: the time of day is not synchronized" in shown
    monkeypatch.setattr("time.time", lambda: 1000.0)
    assert "problem clock: the date is" in text(doctor.examine(machine))


# A program.

PROGRAM = """
import os, numpy_of_nowhere
from hwloop import gpio, i2c, serial
from . import sibling
import beside

LINE = 5
async def main():
    async with gpio.watch(17, pull="up"), gpio.output(line=99), gpio.watch(LINE), gpio.watch("GPIO4"):
        async with serial.open("/dev/ttyUSB7"), i2c.open(1), i2c.open(bus=3):
            smbus2.SMBus("/dev/i2c-9")
"""


def places(**changes: object) -> Places:
    return Places("this machine", 54, {"/dev/ttyAMA0"}, {1}, lambda line: "")._replace(**changes)


def test_needs_are_the_literals_of_known_calls():
    needs = read_needs(PROGRAM, "door.py")
    assert (needs.lines, needs.ports, needs.buses) == ({17, 99}, {"/dev/ttyUSB7"}, {1, 3, 9})
    assert needs.modules == {"os", "numpy_of_nowhere", "hwloop", "beside"}


def test_a_program_is_compared_with_the_board(tmp_path):
    program = tmp_path / "door.py"
    program.write_text(PROGRAM)
    (tmp_path / "beside.py").touch()
    shown = text(list(examine(Machine(), str(program), places())))
    assert "it imports numpy_of_nowhere" in shown
    assert "-m pip install numpy_of_nowhere" in shown
    assert "uses line 99" in shown
    assert "lines are 0 to 53" in shown
    assert "line 17" not in shown
    assert "it uses /dev/ttyUSB7" in shown
    assert "there are: /dev/ttyAMA0" in shown
    assert "/dev/i2c-3" in shown
    assert "/dev/i2c-9" in shown
    assert "beside" not in shown
    assert "ok program" not in shown


def test_lines_in_use_and_chips_that_cannot_be_opened(tmp_path):
    program = tmp_path / "door.py"
    program.write_text("gpio.watch(17)\ngpio.output(18)\n")

    def refused(line: int) -> str:
        raise HardwareError("/dev/gpiochip0", "permission denied", "join group gpio")

    used = text(list(examine(Machine(), str(program), places(user_of=lambda line: "fan" if line == 18 else ""))))
    assert "it uses line 18, which 'fan' uses already" in used
    assert "line 17" not in used
    (finding,) = examine(Machine(), str(program), places(user_of=refused))
    assert finding.remedy == "join group gpio"
    assert "run it on the simulated board" in text(list(examine(Machine(), str(program), places(lines=0))))


@pytest.mark.parametrize(
    ("content", "expected"),
    [(None, "no such file"), (b"def main(:\n", "line 1: "), (b"\xff\xfe", "not UTF-8"), (b"x = '\0'", "null bytes")],
)
def test_an_unreadable_program_is_one_problem(tmp_path, content, expected):
    program = tmp_path / "door.py"
    if content is not None:
        program.write_bytes(content)
    (finding,) = examine(Machine(), str(program), places())
    assert finding.status == "problem"
    assert expected in finding.text


# The command.


def test_the_command_ends_with_1_for_a_problem_and_prints_json(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HWLOOP_BOARD", "sim")
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("from hwloop import gpio\ngpio.watch(17)\n")
    bad.write_text("import nothing_of_this_name\n")
    monkeypatch.setattr(
        doctor, "examine", lambda machine: [Finding("gpio", "note", "no chip", "export HWLOOP_BOARD=sim")]
    )
    assert main(["doctor", str(good)]) == 0
    shown = capsys.readouterr().out
    assert "→ export HWLOOP_BOARD=sim" in shown
    assert "no problem found" in shown
    assert "(simulated board)" in shown
    assert main(["doctor", str(bad), "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)
    assert findings[-1]["status"] == "problem"
    assert "nothing_of_this_name" in findings[-1]["text"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [(["--user", "nobody_of_this_name"], "no such user"), (["--board", "sim"], "name the program too")],
)
def test_wrong_arguments_have_status_2(arguments, expected, capsys):
    assert main(["doctor", *arguments]) == 2
    assert expected in capsys.readouterr().err


@pytest.mark.parametrize(
    ("board", "expected"),
    [
        ("nope.toml", "board file nope.toml: No such file or directory"),
        ("smi", "unknown board 'smi': use auto, linux, sim, or the path"),
        ("mistyped.toml", "unknown type 'ledd'; did you mean led?"),
    ],
)
@pytest.mark.parametrize("named_by", ["option", "environment"])
def test_a_board_with_a_mistake_is_a_wrong_argument(tmp_path, monkeypatch, capsys, board, expected, named_by):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mistyped.toml").write_text('[[device]]\ntype = "ledd"\nline = 17\n')
    (tmp_path / "door.py").write_text("from hwloop import gpio\ngpio.watch(17)\n")
    option = ["--board", board] if named_by == "option" else []
    if named_by == "environment":
        monkeypatch.setenv("HWLOOP_BOARD", board)
    assert main(["doctor", "door.py", *option]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert expected.replace("'smi'", "'smi' in HWLOOP_BOARD" if not option else "'smi'") in shown.err
    assert "please report" not in shown.err


def test_a_remedy_is_never_cut_or_wrapped(tmp_path):
    command = [sys.executable, "-m", "hwloop", "doctor", str(tmp_path / ("long" * 40 + ".py"))]
    done = subprocess.run(command, capture_output=True, text=True, env=os.environ | {"COLUMNS": "40"})
    assert done.returncode == 1
    assert "→ name a Python file\n" in done.stdout
