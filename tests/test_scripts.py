"""Programs that know nothing of hwloop, run by `hwloop run` on a simulated board; each in a process of its own."""

from __future__ import annotations

import ast
import builtins
import importlib.util
import io
import os
import signal
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from firmware_sim import SimBoard, imports
from firmware_sim.libraries.lgpio.module import LgpioModule
from hwloop.cli import main
from hwloop.cli.program import is_script

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
BOARD = """
[[device]]
type = "button"
line = 17
press_every = 0.15
hold = 0.05
resistor = true

[[device]]
type = "wire"
lines = [22, 23]

[[device]]
type = "gps"
port = "/dev/ttyAMA0"
interval = 0.5

[[device]]
type = "bme280"
bus = 1
address = 0x76
"""
needs_gpiozero = pytest.mark.skipif(importlib.util.find_spec("gpiozero") is None, reason="gpiozero is not installed")


class Stage:
    def __init__(self, directory: Path) -> None:
        self.directory = directory
        (directory / "board.toml").write_text(BOARD)

    def start(self, source: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        path = self.directory / "script.py"
        path.write_text(textwrap.dedent(source))
        return subprocess.Popen(
            [sys.executable, "-u", "-m", "hwloop", "run", "script.py", *arguments],
            cwd=self.directory,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), "HWLOOP_BOARD": "board.toml", **environment},
        )

    def run(self, source: str, *arguments: str, **environment: str) -> tuple[int, str, str]:
        """Status, output and errors."""
        process = self.start(source, *arguments, **environment)
        output, errors = process.communicate(timeout=30)
        return process.returncode, output, errors

    def until(self, wanted: str, number: signal.Signals, source: str, **environment: str) -> tuple[int, str]:
        """Return the output and the status of a script that got a signal when it had printed a line."""
        process = self.start(source, **environment)
        assert process.stdout is not None
        said = ""
        while not said.endswith(wanted + "\n"):
            line = process.stdout.readline()
            assert line, process.communicate()
            said += line
        process.send_signal(number)
        rest, errors = process.communicate(timeout=30)
        assert errors == ""
        return process.returncode, said + rest


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_lgpio_script_gets_its_callbacks_in_lgpios_thread_until_it_is_interrupted(
    stage: Stage, number: signal.Signals
) -> None:
    status, said = stage.until(
        "17 0 1",
        number,
        """
        import threading, time
        import lgpio

        def pressed(chip, line, level, timestamp):
            print(line, level, lgpio.gpio_read(handle, 23))
            assert threading.current_thread() is not threading.main_thread()
            assert abs(time.monotonic_ns() - timestamp) < 10e9

        handle = lgpio.gpiochip_open(0)
        lgpio.gpio_claim_output(handle, 22, 1)
        lgpio.gpio_claim_input(handle, 23)
        lgpio.gpio_claim_alert(handle, 17, lgpio.FALLING_EDGE, lgpio.SET_PULL_UP)
        lgpio.callback(handle, 17, lgpio.FALLING_EDGE, pressed)
        try:
            while True:
                time.sleep(1)
        except KeyboardInterrupt:
            lgpio.gpio_write(handle, 22, 0)
            print("bye", lgpio.gpio_read(handle, 23))
        """,
    )
    assert (status, said.splitlines()[-1]) == (0, "bye 0")


def test_all_of_lgpio_may_be_imported_and_its_errors_be_numbers(stage: Stage) -> None:
    status, said, errors = stage.run(
        """
        from lgpio import *
        import lgpio
        handle = gpiochip_open(0)
        try:
            gpio_read(handle, 99)
        except error as refused:
            print(refused)
        lgpio.exceptions = False
        print(gpio_read(handle, 99), lgpio.exceptions, BOTH_EDGES, lgpio.__name__)
        print("close" in dir(), "directory" in dir())
        """
    )
    assert (status, errors) == (0, "")
    assert said.splitlines() == ["'bad GPIO number'", "-73 False 3 lgpio", "False False"]


@needs_gpiozero
@pytest.mark.parametrize(
    ("chosen", "factory"), [({}, "LoopFactory"), ({"GPIOZERO_PIN_FACTORY": "lgpio"}, "LGPIOFactory")]
)
def test_a_gpiozero_script_that_only_pauses_runs_on_hwloops_factory_or_the_one_that_is_chosen(
    stage: Stage, chosen: dict[str, str], factory: str
) -> None:
    status, said = stage.until(
        f"off {factory}",
        signal.SIGTERM,
        """
        import atexit
        from signal import pause
        from gpiozero import LED, Button, DigitalInputDevice, Device

        atexit.register(lambda: print("the lamp is still ours:", lamp.is_lit))
        lamp, wire, button = LED(22), DigitalInputDevice(23), Button(17)
        button.when_pressed = lamp.on
        button.when_released = lamp.off
        wire.when_activated = lambda: print("on")
        wire.when_deactivated = lambda: print("off", type(Device.pin_factory).__name__)
        pause()
        """,
        **chosen,
    )
    assert status == -signal.SIGTERM
    assert said.splitlines()[:2] == ["on", f"off {factory}"]
    assert any(line.startswith("the lamp is still ours:") for line in said.splitlines())


@needs_gpiozero
def test_a_factory_that_was_chosen_is_kept(stage: Stage) -> None:
    script = "from gpiozero import LED, Device; LED(22); print(type(Device.pin_factory).__name__)"
    assert stage.run(script, GPIOZERO_PIN_FACTORY="mock") == (0, "MockFactory\n", "")


def test_smbus2_and_pyserial_find_the_boards_bus_and_port(stage: Stage) -> None:
    status, said, errors = stage.run(
        """
        import serial, smbus2
        from smbus2 import SMBus, i2c_msg

        with SMBus(1) as bus:
            print(hex(bus.read_byte_data(0x76, 0xD0)))
        with smbus2.SMBus("/dev/i2c-1") as bus:
            read = i2c_msg.read(0x76, 1)
            bus.i2c_rdwr(i2c_msg.write(0x76, [0xD0]), read)
            print(hex(next(iter(read))))
        try:
            SMBus(7)
        except FileNotFoundError as missing:
            print(missing)
        with serial.Serial("/dev/ttyAMA0", 9600, timeout=5) as port:
            port.readline()
            print(port.readline()[:2], port.port, port.name)
        try:
            serial.Serial("/dev/ttyUSB7")
        except serial.SerialException as missing:
            print(missing)
        """
    )
    assert (status, errors) == (0, "")
    assert said.splitlines() == [
        *["0x60", "0x60", "[Errno 2] no such bus on the simulated board: '/dev/i2c-7'"],
        "b'$G' /dev/ttyAMA0 /dev/ttyAMA0",
        "[Errno 2] could not open port /dev/ttyUSB7: [Errno 2] no such port on the simulated board; "
        "its ports are: /dev/ttyAMA0: '/dev/ttyUSB7'",
    ]


def test_no_library_reaches_a_real_device_and_each_says_on_which_board_the_program_runs(stage: Stage) -> None:
    status, said, errors = stage.run(
        """
        import ctypes, io, os, pathlib

        def attempt(action):
            try:
                print(action())
            except (OSError, ImportError, AttributeError) as refused:
                print(type(refused).__name__, "simulated board" in str(refused))

        for path in (
            "/dev/i2c-9", "/dev/ttyS0", "/dev/ttyUSB3", "/dev/serial1", "/dev/serial/by-id/usb-x", "/dev/spidev3.0",
            "/dev/gpiochip4", "/dev/gpiomem", "/dev/mem", "/sys/class/gpio/export", "/sys/class/pwm/pwmchip7/export",
            "/dev/video0", "/dev/iio:device0", "/sys/bus/w1/devices/28-0/w1_slave",
        ):
            attempt(lambda: os.open(path, os.O_RDWR))
            attempt(lambda: open(path, "r+b", buffering=0))
            attempt(lambda: os.open(path.encode(), os.O_RDONLY))
            attempt(lambda: io.open(path))
            attempt(lambda: pathlib.Path(path).read_bytes())
        print()
        for name in ("pigpio", "rgpio", "wiringpi", "picamera2"):
            attempt(lambda: importlib.import_module(name))
        attempt(lambda: ctypes.CDLL("libgpiod.so.3"))
        attempt(lambda: lgpio.no_such_name)
        """.replace("import ctypes", "import lgpio, importlib, ctypes")
    )
    assert (status, errors) == (0, "")
    opened, imported = said.split("\n\n")
    assert opened.splitlines() == ["FileNotFoundError True"] * 70
    assert imported.splitlines() == [
        *["ImportError True"] * 4,
        "OSError True",
        "AttributeError True",
    ]


def test_a_port_that_is_opened_by_itself_and_smbus_reach_the_board(stage: Stage) -> None:
    status, said, errors = stage.run(
        """
        import os, pathlib, smbus, termios
        from smbus import SMBus
        port = os.open("/dev/ttyAMA0", os.O_RDWR | os.O_NOCTTY)
        print(os.isatty(port), os.read(port, 1)[:1])
        os.close(port)
        with open(pathlib.Path("/dev/ttyAMA0"), "rb", buffering=0) as file:
            print(file.isatty())
        bus = SMBus(1)
        print(hex(bus.read_byte_data(0x76, 0xD0)), smbus.__name__)
        bus.close()
        """
    )
    assert (status, errors) == (0, "")
    assert said.splitlines() == ["True b'$'", "True", "0x60 smbus"]


@needs_gpiozero
@pytest.mark.parametrize("factory", ["hwloop", "lgpio"])
def test_an_spi_device_of_gpiozero_is_on_the_simulated_lines(stage: Stage, factory: str) -> None:
    script = """
        import warnings
        from gpiozero import MCP3008
        warnings.simplefilter("ignore")
        print(0 <= MCP3008(0).value <= 1)
        """
    assert stage.run(script, GPIOZERO_PIN_FACTORY=factory) == (0, "True\n", "")


@needs_gpiozero
@pytest.mark.parametrize("factory", ["pigpio", "native", "rpigpio"])
def test_a_factory_for_real_lines_is_rejected(stage: Stage, factory: str) -> None:
    script = "from gpiozero import LED\nLED(22)\n"
    status, _, errors = stage.run(script, GPIOZERO_PIN_FACTORY=factory)
    assert status == (1 if factory == "native" else 2)  # an import that fails is a program that can't start
    assert "simulated board" in errors or "No module named 'RPi'" in errors


def test_an_asyncio_program_may_import_them_too(stage: Stage) -> None:
    status, said, errors = stage.run(
        """
        import asyncio, lgpio, smbus2
        from hwloop import gpio, i2c

        async def main():
            handle = lgpio.gpiochip_open(0)
            async with gpio.watch(23) as wire, i2c.open(1) as bus:
                lgpio.gpio_claim_output(handle, 22, 1)
                print((await anext(wire)).value, hex(await bus.device(0x76).read_register(0xD0)))
            print(hex(await asyncio.to_thread(lambda: smbus2.SMBus(1).read_byte_data(0x76, 0xD0))))
        """
    )
    assert (status, said, errors) == (0, "1 0x60\n0x60\n", "")


def test_a_script_is_run_as_python_would(stage: Stage) -> None:
    status, said, errors = stage.run(
        """
        import os, pickle, sys, threading, time

        class Thing:
            pass

        def main():
            print(sys.argv, os.path.basename(__file__), __name__)
            assert isinstance(pickle.loads(pickle.dumps(Thing())), Thing)
            threading.Thread(target=lambda: (time.sleep(0.1), print("last"))).start()
            sys.exit(3)

        if __name__ == "__main__":
            main()
        """,
        "--",
        "--fast",
        "x",
    )
    assert (status, errors) == (3, "")
    assert said.splitlines() == ["['script.py', '--fast', 'x'] script.py __main__", "last"]


def test_a_script_that_fails_shows_where(stage: Stage) -> None:
    status, said, errors = stage.run("import lgpio\nprint(1)\nlgpio.gpio_read(0, 5)\n")
    assert (status, said) == (1, "1\n")
    assert errors.splitlines()[:3] == [
        "Traceback (most recent call last):",
        '  File "script.py", line 3, in <module>',
        "    lgpio.gpio_read(0, 5)",
    ]
    assert errors.splitlines()[-1] == "lgpio.error: 'unknown handle'"


def test_a_script_with_a_loop_of_its_own_is_ended_in_order(stage: Stage) -> None:
    status, said = stage.until(
        "waiting",
        signal.SIGTERM,
        """
        import asyncio

        async def work():
            try:
                print("waiting")
                await asyncio.sleep(60)
            finally:
                print("cleaned up")

        asyncio.run(work())
        """,
    )
    assert (status, said) == (-signal.SIGTERM, "waiting\ncleaned up\n")


def test_a_script_is_ready_as_a_service_when_it_begins(stage: Stage) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(stage.directory / "notify"))
        assert stage.run("print(1)", NOTIFY_SOCKET=str(stage.directory / "notify")) == (0, "1\n", "")
        assert systemd.recv(100) == b"READY=1"


def test_a_script_has_no_real_time_class(stage: Stage) -> None:
    status, _, errors = stage.run("print(1)", "--realtime")
    assert status == 2
    assert "--realtime is for a program with a loop, and this is a script" in errors


@pytest.mark.parametrize(
    ("source", "script"),
    [
        ("from signal import pause\nimport gpiozero\npause()", True),
        ("def main(): pass\nif __name__ == '__main__':\n    main()", True),
        ("with x as y:\n    y.read()", True),
        ("try:\n    while True: pass\nexcept KeyboardInterrupt: pass", True),
        ("import asyncio\nasyncio.run(setup())", False),
        ("from . import station\nstation.start()", False),
        ("from station.app import start\nstart()", False),
        ("import sys\nasync def main(): pass\nsys.exit(run(main()))", False),
        ('"""Words."""\nimport sys\ny = 1\nclass A:\n    print(1)\ndef main(): print(2)', False),
    ],
)
def test_scripts_are_recognised(source: str, script: bool) -> None:
    assert is_script(ast.parse(source)) is script


def test_afterwards_all_is_as_it_was() -> None:
    before = sys.modules.get("lgpio"), list(sys.meta_path), dict(os.environ)
    smbus2 = pytest.importorskip("smbus2")
    opening, opens = smbus2.SMBus.open, (os.open, builtins.open, io.open)
    with SimBoard() as board, imports.led_to(board):
        assert smbus2.SMBus.open is not opening
        assert isinstance(sys.modules["lgpio"], LgpioModule)
    assert smbus2.SMBus.open is opening
    assert (os.open, builtins.open, io.open) == opens
    assert (sys.modules.get("lgpio"), list(sys.meta_path), dict(os.environ)) == before


@needs_gpiozero
@pytest.mark.parametrize("order", ["block ends first", "board closes first"])
def test_gpiozero_cleans_up_at_the_end_of_each_block(tmp_path: Path, order: str) -> None:
    """While the lines can still be driven, and although a button is pressed; the next block starts anew."""
    (tmp_path / "script.py").write_text(
        textwrap.dedent(
            f"""
            import threading
            from firmware_sim import SimBoard, imports

            def press(button, ended):
                while not ended.wait(0.002):
                    button.click()

            for _ in range(2):
                with SimBoard({{"device": [{{"type": "button", "line": 17}}]}}) as board, imports.led_to(board):
                    from gpiozero import Button, LED
                    pressed = threading.Event()
                    led, button = LED(27), Button(17)
                    led.blink(0.01, 0.01)
                    button.when_pressed = pressed.set
                    ended = threading.Event()
                    presser = threading.Thread(target=press, args=(board.devices[0], ended))
                    presser.start()
                    print(pressed.wait(30))
                    if {order == "board closes first"}:
                        board.close()
                ended.set()
                presser.join()
                print(led.closed, button.closed)
            print("end")
            """
        )
    )
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.stdout, done.stderr) == ("True\nTrue True\n" * 2 + "end\n", "")


def test_a_program_run_in_this_process_leaves_nothing(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stage.directory)
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setattr(sys, "path", sys.path[:])
    (stage.directory / "program.py").write_text("import lgpio\nasync def main(): lgpio.gpiochip_open(0)\n")
    monkeypatch.delenv("GPIOZERO_PIN_FACTORY", raising=False)
    before, ours = sys.modules.get("lgpio"), sys.modules["__main__"]
    assert main(["run", "--board", "board.toml", "program.py"]) == 0
    assert sys.modules.get("lgpio") is before
    assert sys.modules["__main__"] is ours
    assert "GPIOZERO_PIN_FACTORY" not in os.environ
