"""Bad input: a message that helps, the right status, no traceback, and nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwloop.cli import COMMANDS, Ended, main
from hwloop.cli.interruption import interruption
from hwloop.sources import gpio

ROOT = Path(__file__).parents[1]
Call = Callable[..., tuple[int, str]]

GOOD = "async def main(): pass\n"


@pytest.fixture
def hwloop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Call]:
    """`hwloop("run", path)` gives the status and what was printed to stderr. FIFOs and claims must be gone after it."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.setattr("hwloop.board.has_gpiochip", lambda: False)
    monkeypatch.delenv("HWLOOP_BOARD", raising=False)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str]:
        status = main(arguments)
        assert list(temporary.iterdir()) == []
        assert gpio.outputs() == []
        return status, capsys.readouterr().err

    yield call
    sys.modules.pop("program", None)


def write(name: str, text: str) -> str:
    Path(name).write_text(textwrap.dedent(text), encoding="utf-8")
    return name


# The command.


def test_without_a_command_the_help_is_shown(hwloop: Call) -> None:
    status, said = hwloop()
    assert status == 2
    assert all(f"  {command} " in said for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fly"], f"hwloop: unknown command 'fly'; choose from {', '.join(COMMANDS)}"),
        (["--fly"], "hwloop: unrecognized arguments: --fly"),
        (["run"], "hwloop run: give one program: the path of a Python file, or -m and the name of a module"),
        (["run", "x.py", "-m", "x"], "hwloop run: give one program: "),
        (["run", "x.py", "--fly"], "hwloop run: unrecognized arguments: --fly; arguments of the program follow '--'"),
        (["demo", "--", "x"], "hwloop demo: this command takes no arguments after '--': 'x'"),
        (["demo", "--loop", "fast"], "hwloop demo: argument --loop: invalid choice: 'fast'"),
        (["demo", "--seconds", "1"], "hwloop demo: --seconds must be 2 or more, not 1"),
        (["demo", "--seconds", "nan"], "hwloop demo: --seconds must be 2 or more, not nan"),
    ],
)
def test_a_wrong_call_says_what_would_be_right(hwloop: Call, arguments: list[str], message: str) -> None:
    status, said = hwloop(*arguments)
    assert status == 2
    assert said.startswith(message)
    name = message.partition(":")[0]
    assert said.endswith(f"\nsee '{name} --help'\n")


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["monito"], "did you mean monitor?"),
        (["program.py"], "to run a program: hwloop run program.py"),
        (["--verison"], "did you mean --version?"),
        (["--board", "sim", "run"], "the options of a command follow its name"),
        (["demo", "--secs=1"], "did you mean --seconds?"),
        (["monitor", "gpio:1", "--jsno"], "did you mean --json?"),
        (["run", "x.py", "--sede", "1"], "arguments of the program follow '--'; did you mean --seed?"),
    ],
)
def test_an_unknown_word_comes_with_a_hint(hwloop: Call, arguments: list[str], hint: str) -> None:
    status, said = hwloop(*arguments)
    assert status == 2
    assert said.splitlines()[0].endswith(f"; {hint}")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        main([command, "--help"])
    assert exit.value.code == 0
    assert f"usage: hwloop {command} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "package", "attempt"),
    [
        ("run program.py --trace x.vcd", "vcd", "--trace x.vcd: a VCD file needs the package pyvcd"),
        ("sim program.py --scenario x.toml --vcd x.vcd", "vcd", "x.vcd: a VCD file needs the package pyvcd"),
        ("sim program.py --scenario x.toml --explore 5", "hypothesis", "--explore needs the package hypothesis"),
        ("run program.py --metrics x.prom", "prometheus_client", "metrics need the package prometheus_client"),
        ("bench --plot x.png", "matplotlib", "--plot needs matplotlib"),
    ],
)
def test_an_option_whose_package_is_not_installed_is_a_wrong_argument(
    tmp_path: Path, arguments: str, package: str, attempt: str
) -> None:
    (tmp_path / "program.py").write_text(GOOD)
    code = f"import sys; sys.modules[{package!r}] = None; from hwloop.cli import main; sys.exit(main())"
    ended = subprocess.run(
        [sys.executable, "-c", code, *arguments.split()],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 2
    assert ended.stderr.startswith(f"hwloop {arguments.split()[0]}: {attempt}")
    assert "pip install" in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "option"),
    [
        (["run", "program.py"], "--trace x.csv"),
        (["sim", "program.py", "--scenario", "x.toml"], "--trace x.csv"),
        (["sim", "program.py", "--scenario", "x.toml", "y.toml"], "--vcd x.vcd"),
        (["sim", "program.py", "--scenario", "x.toml"], "--junit x.xml"),
        (["bench"], "--json x.json"),
        (["bench"], "--plot x.png"),
    ],
)
def test_a_file_that_cannot_be_written_is_an_error_before_anything_runs(
    hwloop: Call, monkeypatch: pytest.MonkeyPatch, arguments: list[str], option: str
) -> None:
    write("program.py", "raise SystemExit(5)")
    monkeypatch.setattr("hwloop_bench.processes.measure", lambda *arguments: pytest.fail("measured"))
    monkeypatch.setattr(os, "access", lambda path, mode: path != ".")
    status, said = hwloop(*arguments, *option.split())
    assert status == 1
    assert said.startswith(f"hwloop {arguments[0]}: {option}: not writable; choose a directory where this user may")
    assert len(said.splitlines()) == 1


def test_a_fault_of_our_own_is_reported_without_a_traceback_but_for_debug(
    hwloop: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(path: str) -> None:
        raise AttributeError("no such thing")

    monkeypatch.setattr("hwloop.cli.demo.load_program", broken)
    status, said = hwloop("demo")
    assert status == 1
    assert said == (
        "hwloop demo: unexpected AttributeError: no such thing; please report it with the output of --debug\n"
    )
    for arguments in (["--debug", "demo"], ["demo", "--debug"]):
        status, said = hwloop(*arguments)
        assert status == 1
        assert said.startswith("Traceback")


def test_an_exception_that_a_signal_has_caused_is_the_end_by_that_signal(
    hwloop: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(path: str) -> None:
        raise RuntimeError("Error calling __set_name__") from Ended(signal.SIGTERM)

    monkeypatch.setattr("hwloop.cli.demo.load_program", interrupted)
    assert hwloop("demo") == (128 + signal.SIGTERM, "")


def test_an_exception_of_a_clean_up_counts_as_caused_by_a_signal_only_before_the_program_has_begun() -> None:
    signalled, clean_up, package = Ended(signal.SIGTERM), ValueError("of a clean-up"), ImportError("it lacks a part")
    clean_up.__context__ = package.__context__ = signalled
    assert interruption(package) is signalled
    assert interruption(clean_up) is None
    assert interruption(clean_up, at_start=True) is signalled
    assert interruption(RuntimeError(), at_start=True) is None


def test_a_fault_among_failures_of_hardware_is_distinguished(hwloop: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    from hwloop import HardwareError

    def broken(path: str) -> None:
        raise ExceptionGroup("both", [HardwareError("pump", "dry"), ExceptionGroup("", [KeyError("valve")])])

    monkeypatch.setattr("hwloop.cli.demo.load_program", broken)
    _, said = hwloop("demo")
    assert said.startswith("hwloop demo: pump: dry\nhwloop demo: unexpected KeyError: 'valve';")


@pytest.mark.parametrize("call", ["--version", "--help", "run --help", "parts --json"])
def test_output_that_finds_no_room_is_a_failure(call: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "hwloop", *call.split()]
        ended = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, timeout=60)
    name = "hwloop" if call.startswith("-") else f"hwloop {call.split()[0]}"
    assert ended.stderr == f"{name}: standard output: no space left on device; what was to come is lost\n"
    assert ended.returncode == 1


def test_it_is_a_command_and_a_module() -> None:
    shown = subprocess.run(
        [sys.executable, "-m", "hwloop", "--version"],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert shown.stdout.startswith("hwloop ")


# Programs.


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing.py", "missing.py: there is no such program; give the path of a Python file"),
        ("missing.module", "missing.module: there is no such program; give the path of a Python file, or a module: "),
        (".", ".: is a directory without a __main__.py; give the path of a Python file"),
    ],
)
def test_a_program_that_is_not_there(hwloop: Call, name: str, message: str) -> None:
    status, said = hwloop("run", name)
    assert status == 2
    assert said.startswith(f"hwloop run: {message}")
    assert said.endswith("\nsee 'hwloop run --help'\n")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (b"import asyncio\nasync def main(:\n", "line 2"),
        (b"# hwloop\nAn event loop for hardware\n", "SyntaxError: invalid syntax"),
        (b"\x7fELF\x02\x01\x01\0\0\0\xff", "Error: "),
        (b"name = '\xe9'\n", "SyntaxError: "),  # its wording has changed with Python 3.14
    ],
)
def test_a_program_that_is_not_python(hwloop: Call, source: bytes, message: str) -> None:
    Path("program.py").write_bytes(source)
    status, said = hwloop("run", "program.py")
    assert status == 2  # a service is not started again
    assert said.startswith("hwloop run: program.py is not a valid Python program:\n")
    assert message in said
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("source", "last"),
    [
        ("import nowhere.at_all", "program.py: there is no module nowhere; add its package to the dependencies of "),
        ("raise ModuleNotFoundError(\"No module named 'PIL'\", name='PIL')", "-m pip install pillow"),
        ("raise ModuleNotFoundError('PIL: install it by hand', name='PIL')", "program.py: PIL: install it by hand"),
        ("from json import nothing", "program.py: an import failed (cannot import name 'nothing'"),
        ("import broken", "broken.py, line 1, is not valid Python; correct it"),
    ],
)
def test_a_program_whose_imports_fail_is_not_worth_another_start(hwloop: Call, source: str, last: str) -> None:
    write("program.py", f"{source}\nasync def main(): pass\n")
    write("broken.py", "x =\n")
    status, said = hwloop("run", "program.py")
    assert status == 2
    assert "Traceback" in said
    assert last in said.splitlines()[-1]


def test_an_import_that_fails_once_the_loop_runs_is_a_failure_like_any_other(hwloop: Call) -> None:
    write("program.py", "async def main():\n    import nowhere\n")
    status, said = hwloop("run", "program.py")
    assert status == 1
    assert said.splitlines()[-1] == "ModuleNotFoundError: No module named 'nowhere'"


def test_a_variable_that_names_no_backend_is_a_wrong_call(hwloop: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWLOOP_GPIO", "pigpio")
    status, said = hwloop("run", write("program.py", GOOD))
    assert status == 2
    assert said.startswith("hwloop run: HWLOOP_GPIO: unknown GPIO backend 'pigpio'; use auto, gpiod, lgpio\n")


@pytest.mark.parametrize("source", ["import nowhere", "x = ", "x = 1", "import sys; sys.exit(2)"])
def test_the_last_line_of_a_service_that_is_not_started_again_says_what_to_do(
    hwloop: Call, source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hwloop.cli.in_service.unit_of_process", lambda: "hwloop-door.service")
    write("program.py", source)
    assert "systemd" not in hwloop("run", "program.py")[1]
    monkeypatch.setenv("NOTIFY_SOCKET", str(Path("socket").absolute()))
    status, said = hwloop("run", "program.py")
    assert status == 2
    assert said.splitlines()[-1] == (
        "hwloop run: systemd does not start hwloop-door.service again; correct the above, then: "
        "sudo systemctl restart hwloop-door.service"
    )


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        ("x = 1", "", "there is no 'main' in it; a program needs an 'async def main():'"),
        ("async def go(): pass", "", "there is no 'main' in it; what can be run is go: program.py:go"),
        ("async def go(): pass\nasync def stop(x): pass", ":run", "there is no 'run' in it; what can be run is go: "),
        ("from asyncio import open_connection", "", "there is no 'main' in it; a program needs an 'async def main():'"),
        ("def main(): pass", "", "'main' in it is not async; write 'async def main():'; a program needs "),
        ("main = 7", "", "'main' in it is not async; a program needs an 'async def main():'"),
        ("async def main(a, b=1, *, c): pass", "", "'main' needs arguments (a, c), and is called with none; give them"),
    ],
)
def test_a_program_without_a_main_to_run(hwloop: Call, source: str, name: str, message: str) -> None:
    write("program.py", source)
    status, said = hwloop("run", f"program.py{name}")
    assert status == 2
    assert said.startswith(f"hwloop run: program.py: {message}")


def test_a_second_run_inside_a_running_loop(hwloop: Call) -> None:
    write("program.py", GOOD)

    async def within() -> tuple[int, str]:
        return hwloop("run", "program.py")

    status, said = asyncio.run(within())
    assert status == 1
    assert said.startswith("hwloop run: an event loop already runs in this thread")


def test_a_program_that_starts_a_loop_inside_the_loop(hwloop: Call) -> None:
    write("program.py", "import hwloop\nasync def main(): hwloop.run(main())")
    status, said = hwloop("run", "program.py")
    assert status == 1
    assert said.endswith("RuntimeError: hwloop.run() cannot be called from a running event loop; use 'await' there\n")


# Boards.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "board file board.toml: No such file or directory"),
        ('label = "a', "board file board.toml: not valid TOML: "),
        ('colour = "red"', "board.toml: unknown key colour; known are device, label"),
        ('[[device]]\ntype = "laser"', "board.toml: device 1: unknown type 'laser'"),
        ('[[device]]\ntype = "led"\nline = 4\nshade = 1', "board.toml: device 1 (led): unknown key shade; known are "),
        ('[[device]]\ntype = "led"\nline = "4"', "board.toml: device 1 (led): line must be a whole number, not '4'"),
        (
            '[[device]]\ntype = "led"\nline = 4\n[[device]]\ntype = "button"\nline = 4',
            "board.toml: device 2: the button on line 4: line 4 is used already, by the LED on line 4",
        ),
        (
            '[[device]]\ntype = "gps"\nport = "gps"\nlog = "missing.nmea"',
            "board.toml: device 1: gps log missing.nmea: ",
        ),
    ],
)
def test_a_board_that_can_not_be_built(hwloop: Call, text: str | None, message: str) -> None:
    write("program.py", GOOD)
    if text is not None:
        write("board.toml", text)
    for command in (["run", "program.py"], ["monitor", "gpio:17"]):
        status, said = hwloop(*command, "--board", "board.toml")
        assert status == 2
        assert said.startswith(f"hwloop {command[0]}: {message}")


def test_a_board_that_nobody_knows(hwloop: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    write("program.py", GOOD)
    message = "hwloop run: unknown board 'bench'{}: use auto, linux, sim, or the path of a board file ending in .toml\n"
    status, said = hwloop("run", "program.py", "--board", "bench")
    assert (status, said.startswith(message.format(""))) == (2, True)
    monkeypatch.setenv("HWLOOP_BOARD", "bench")
    status, said = hwloop("run", "program.py")
    assert (status, said.startswith(message.format(" in HWLOOP_BOARD"))) == (2, True)


# Hardware: the failure is the program's, its reason is not.


@pytest.mark.parametrize(
    ("body", "board", "message"),
    [
        ("async with gpio.watch(17): pass", "", "/dev/gpiochip*: no GPIO chip on this machine; on a desktop use "),
        ("async with gpio.watch(99): pass", "sim", "line 99: no such line on /dev/gpiochip0; its lines are 0 to 53"),
        ("async with gpio.output('LAMP'): pass", "sim", "line 'LAMP': no line of that name on /dev/gpiochip0; see "),
        ("async with gpio.watch(4), gpio.output(4): pass", "sim", "line 4: in use by this program already, as gpio:4"),
        ("async with serial.open('/dev/ttyX'): pass", "sim", "/dev/ttyX: no such port on the simulated board; its "),
        ("async with serial.open('/dev/no-tty'): pass", "linux", "/dev/no-tty: no such port; "),
        ("async with i2c.open(9): pass", "sim", "/dev/i2c-9: no such bus on the simulated board; its buses are: 1"),
        ("async with i2c.open(99): pass", "linux", "/dev/i2c-99: no such bus; "),
        (
            "async with i2c.open(1) as bus: await bus.device(0x20).read(1)",
            "sim",
            "I2C bus 1, address 0x20: no answer (Remote I/O error); check wiring and address; ",
        ),
    ],
)
def test_hardware_that_is_not_there(hwloop: Call, body: str, board: str, message: str) -> None:
    write("program.py", f"from hwloop import gpio, i2c, serial\nasync def main():\n    {body}\n")
    status, said = hwloop("run", "program.py", *(["--board", board] if board else []))
    assert status == 1
    assert said.startswith(f"hwloop run: {message}")
    assert said.endswith("\nin program.py, line 3, in main\n")
    assert "Traceback" not in said


def test_a_failure_of_hardware_whose_text_raises_is_reported_by_its_type(hwloop: Call) -> None:
    write(
        "program.py",
        """\
        from hwloop import HardwareError
        class Pump(HardwareError):
            def __str__(self): raise RuntimeError
            __repr__ = __str__
        async def main(): raise Pump("pump", "dry")
        """,
    )
    status, said = hwloop("run", "program.py", "--board", "sim")
    assert status == 1
    assert said == "hwloop run: Pump (its text could not be made)\nin program.py, line 5, in main\n"


def test_debug_shows_where_hardware_failed(hwloop: Call) -> None:
    write("program.py", "from hwloop import gpio\nasync def main():\n    gpio.watch(99).open()\n")
    status, said = hwloop("run", "--debug", "program.py", "--board", "sim")
    assert status == 1
    assert said.startswith("Traceback (most recent call last):\n")
    assert "\nhwloop run: line 99: no such line on /dev/gpiochip0; its lines are 0 to 53\n" in said


def test_several_tasks_that_fail_for_one_reason_are_reported_as_one(hwloop: Call) -> None:
    write(
        "program.py",
        """
        import asyncio
        from hwloop import gpio, i2c
        async def watch(): gpio.watch(17).open()
        async def drive(): gpio.output(27).open()
        async def main():
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(watch())
                tasks.create_task(drive())
        """,
    )
    status, said = hwloop("run", "program.py")
    assert status == 1
    assert said.count("no GPIO chip") == 1
    assert said.endswith("\nin program.py, line 4, in watch\nin program.py, line 5, in drive\n")


def test_a_failure_of_hardware_beside_a_fault_of_the_program_is_shown_as_pythons(hwloop: Call) -> None:
    write(
        "program.py",
        """
        from hwloop import HardwareError
        async def main():
            raise ExceptionGroup("both", [HardwareError("pump", "dry"), KeyError("valve")])
        """,
    )
    status, said = hwloop("run", "program.py")
    assert status == 1
    assert "Exception Group Traceback" in said
    assert "KeyError: 'valve'" in said


def test_a_handler_that_raises_is_reported_and_the_rest_goes_on(hwloop: Call, caplog: pytest.LogCaptureFixture) -> None:
    write(
        "program.py",
        """
        from hwloop import gpio
        async def main():
            async with gpio.watch(22) as watch, gpio.output(23) as output:
                watch.on_edge(lambda edge: 1 / 0)
                output.set(1)
                async for edge in watch:
                    break
                raise SystemExit(edge.value)
        """,
    )
    write("board.toml", '[[device]]\ntype = "wire"\nlines = [22, 23]\n')
    status, _ = hwloop("run", "program.py", "--board", "board.toml")
    assert status == 1
    assert "gpio:22: exception in callback" in caplog.text
    assert "ZeroDivisionError" in caplog.text
