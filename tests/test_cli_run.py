"""`hwloop run`: how a program is loaded, run, ended and answered for."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from firmware_sim import SimBoard
from hwloop.cli import Ended, main, process
from hwloop.sources import gpio

ROOT = Path(__file__).parents[1]
Program = Callable[[str], str]


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Program]:
    """`program(source)` writes a program and gives its path. Changes that loading one makes are undone."""
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setattr(sys, "path", sys.path[:])
    monkeypatch.delenv("HWLOOP_BOARD", raising=False)

    def write(source: str) -> str:
        path = tmp_path / "station.py"
        path.write_text(textwrap.dedent(source), encoding="utf-8")
        return str(path)

    yield write
    for name in ("station", "__hwloop_program__"):
        sys.modules.pop(name, None)


def start(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """`hwloop` with `arguments` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "hwloop", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
    )


def test_closed_streams_are_no_failure_and_their_numbers_no_devices(program: Program) -> None:
    path = program("""
        import os
        async def main():
            print("nobody hears this", flush=True)
            assert [os.readlink(f"/proc/self/fd/{number}") for number in range(3)] == [os.devnull] * 3
        """)
    command = ["sh", "-c", 'exec "$0" -m hwloop run "$1" <&- >&- 2>&-', sys.executable, path]
    assert subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False).returncode == 0


def test_main_runs_on_hwloops_loop_and_what_it_returns_is_no_status(program: Program, capsys: Any) -> None:
    path = program("""
        import asyncio
        async def main():
            print(type(asyncio.get_running_loop()).__module__)
            return 5
        """)
    assert main(["run", path]) == 0
    assert capsys.readouterr().out == "hwloop.core.event_loop\n"


def test_the_program_is_main_with_its_own_arguments(program: Program, capsys: Any) -> None:
    path = program("""
        import sys
        from pathlib import Path
        async def main():
            print(__name__, sys.modules[__name__].main is main, sys.argv[1:])
            print(sys.argv[0] == __file__, sys.path[0] == str(Path(__file__).resolve().parent))
        if __name__ == "__main__":
            print("under the guard")
        """)
    assert main(["run", path, "--", "--flag", "--", "--debug"]) == 0
    assert capsys.readouterr().out == "under the guard\n__main__ True ['--flag', '--', '--debug']\nTrue True\n"


def test_a_program_does_not_take_the_place_of_a_module_that_is_in_use(tmp_path: Path, program: Program) -> None:
    before = sys.modules["signal"]
    path = tmp_path / "signal.py"
    path.write_text("async def main(): pass\n", encoding="utf-8")
    assert main(["run", str(path)]) == 0
    assert sys.modules["signal"] is before


def test_another_coroutine_function_can_be_named(program: Program, capsys: Any) -> None:
    path = program("async def other(speed=3): print('other', speed)")
    assert main(["run", f"{path}:other"]) == 0
    assert capsys.readouterr().out == "other 3\n"


def test_the_board_is_the_one_that_is_named(program: Program, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program("""
        from hwloop import board
        async def main(): print(board.current().label)
        """)
    wiring = Path(path).with_name("board.toml")
    wiring.write_text('label = "bench"\n', encoding="utf-8")
    assert main(["run", path, "--board", str(wiring)]) == 0
    monkeypatch.setenv("HWLOOP_BOARD", str(wiring))
    assert main(["run", path]) == 0
    assert main(["run", path, "--board", "sim"]) == 0
    assert capsys.readouterr().out == "bench\nbench\nsimulated board\n"


def test_a_program_that_needs_no_hardware_needs_no_board(program: Program, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hwloop.board.has_gpiochip", lambda: False)
    assert main(["run", program("async def main(): pass")]) == 0
    monkeypatch.setenv("HWLOOP_BOARD", "auto")
    assert main(["run", program("async def main(): pass")]) == 0


@pytest.mark.parametrize(
    ("leaves", "status", "said"),
    [
        ("sys.exit()", 0, ""),
        ("sys.exit(7)", 7, ""),
        ("sys.exit('no water in the tank')", 1, "no water in the tank\n"),
        ("raise KeyboardInterrupt", 130, ""),
    ],
)
def test_the_status_is_what_python_makes_of_the_way_out(
    program: Program, capsys: Any, leaves: str, status: int, said: str
) -> None:
    assert main(["run", program(f"import sys\nasync def main(): {leaves}")]) == status
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("raises", ["1 / 0", "asyncio.current_task().cancel(); await asyncio.sleep(1)"])
def test_the_programs_own_exception_is_shown_from_the_program_on(program: Program, capsys: Any, raises: str) -> None:
    path = program(f"""
        import asyncio
        async def main():
            await deeper()
        async def deeper():
            {raises}
        """)
    assert main(["run", path]) == 1
    shown = capsys.readouterr().err.splitlines()
    assert shown[0] == "Traceback (most recent call last):"
    assert shown[1] == f'  File "{path}", line 4, in main'
    assert "Error" in shown[-1]


def test_an_exception_while_the_program_is_loaded_is_shown_too(program: Program, capsys: Any) -> None:
    path = program("import no_such_module")
    assert main(["run", path]) == 2
    assert capsys.readouterr().err.splitlines()[1] == f'  File "{path}", line 1, in <module>'


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_the_program_in_order(program: Program, capsys: Any, number: signal.Signals) -> None:
    path = program(f"""
        import asyncio, signal
        async def main():
            asyncio.get_running_loop().call_later(0.01, signal.raise_signal, {number})
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.01)
                print("cleaned up")
        """)
    before = signal.signal(number, signal.SIG_DFL)  # whoever runs the tests may have us ignore it
    try:
        assert main(["run", path]) == 128 + number
        assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        signal.signal(number, before)
    assert capsys.readouterr().out == "cleaned up\n"


def test_a_program_that_ends_well_in_spite_of_a_signal_has_ended_well(program: Program) -> None:
    path = program("""
        import asyncio, signal
        async def main():
            asyncio.get_running_loop().call_soon(signal.raise_signal, signal.SIGTERM)
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                pass
        """)
    assert main(["run", path]) == 0


def test_a_signal_that_our_parent_ignores_stays_ignored(program: Program) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        path = program("""
            import asyncio, signal
            async def main():
                signal.raise_signal(signal.SIGHUP)
                await asyncio.sleep(0.01)
            """)
        assert main(["run", path]) == 0
    finally:
        signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("ending", ["return", "error", "signal"])
def test_outputs_left_open_end_at_their_safe_level(ending: str) -> None:
    async def program() -> None:
        gpio.output(5, initial=1, safe=0).open()
        gpio.output(6, initial=0, safe=1, active_low=True).open()
        gpio.output(7, initial=1).open()
        if ending == "error":
            raise RuntimeError("broken")
        if ending == "signal":
            raise Ended(signal.SIGTERM)

    with SimBoard() as board:
        try:
            with process.hosted(board) as host:
                host.run(program)
        except (RuntimeError, Ended):
            pass
        assert [board.chip.line(number).level for number in (5, 6, 7)] == [0, 0, 1]
        assert [board.chip.line(number).consumer for number in (5, 6, 7)] == [None, None, None]
    assert gpio.outputs() == []


def test_an_output_that_can_not_be_made_safe_does_not_keep_the_others_from_it(capsys: Any) -> None:
    class Stuck(gpio.Output):
        def close(self) -> None:
            if self.value:
                super().set(0)
                raise OSError("stuck")
            super().close()

    async def program() -> None:
        stuck.open()
        gpio.output(6, initial=1, safe=0).open()

    stuck = Stuck(5, initial=1, name="pump")
    with SimBoard() as board:
        with process.hosted(board) as host:
            host.run(program)
        assert board.chip.line(6).level == 0
    assert capsys.readouterr().err == "hwloop: pump could not be left at its safe level: stuck\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_process_ended_by_a_signal_dies_of_it_after_all_else_is_done(
    program: Program, number: signal.Signals
) -> None:
    path = program("""
        import asyncio, atexit
        async def main():
            atexit.register(print, "exit handler")
            print("running", flush=True)
            await asyncio.sleep(60)
        """)
    with start("run", path) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "running\n"
        child.send_signal(number)
        out, err = child.communicate(timeout=20)
    assert (child.returncode, out, err) == (-number, "exit handler\n", "")


@pytest.mark.parametrize(
    "refuses",
    [
        "while True:\n        pass",
        "while True:\n        try: await asyncio.sleep(1)\n        except asyncio.CancelledError: pass",
        "await asyncio.to_thread(threading.Event().wait)",
    ],
    ids=["a busy loop", "a task that will not be cancelled", "a thread"],
)
@pytest.mark.slow
def test_a_second_signal_ends_what_would_not_end(program: Program, refuses: str) -> None:
    path = program("import asyncio, threading\nasync def main():\n    print('running', flush=True)\n    " + refuses)
    with start("run", path) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "running\n"
        child.terminate()
        # The second signal must not come before the first one was taken.
        time.sleep(0.2)
        assert child.poll() is None
        child.terminate()
        assert child.wait(20) == -signal.SIGTERM


def test_systemd_hears_that_the_program_is_ready_and_alive_and_stops(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address)
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        monkeypatch.setenv("WATCHDOG_USEC", "60000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        path = program("import asyncio\nasync def main(): await asyncio.sleep(0.05)")
        assert main(["run", path]) == 0
        heard = [systemd.recv(100).decode()]
        while heard[-1] != "STOPPING=1":
            heard.append(systemd.recv(100).decode())
        assert heard[0] == "READY=1"
        assert len(heard) >= 4
        assert set(heard[1:-1]) == {"WATCHDOG=1"}
        # A program that fails at once was never ready.
        assert main(["run", program("async def main(): raise SystemExit(3)")]) == 3
        assert systemd.recv(100) == b"STOPPING=1"
        # A program that gets SIGTERM says so before it cleans up.
        path = program("""
            import asyncio, signal
            from hwloop import service
            async def main():
                asyncio.get_running_loop().call_later(0.01, signal.raise_signal, signal.SIGTERM)
                try:
                    await asyncio.sleep(60)
                finally:
                    service.status("cleaning up")
            """)
        monkeypatch.delenv("WATCHDOG_USEC")
        assert main(["run", path]) == 143
        heard = [systemd.recv(100).decode() for _ in range(3)]
        systemd.setblocking(False)
        with pytest.raises(BlockingIOError):  # it stops once
            systemd.recv(100)
    assert heard == ["READY=1", "STOPPING=1\nEXTEND_TIMEOUT_USEC=15000000", "STATUS=cleaning up"]


def test_systemd_hears_that_a_program_without_a_loop_stops_before_it_cleans_up(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(address := str(tmp_path / "notify"))
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", address)
        path = program("""
            import signal
            from hwloop import service
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                service.status("cleaning up")
            """)
        assert main(["run", path]) == 143
        assert [systemd.recv(100).decode() for _ in range(2)] == [
            "STOPPING=1\nEXTEND_TIMEOUT_USEC=15000000",
            "STATUS=cleaning up",
        ]


def test_in_virtual_time_a_day_takes_none_and_the_simulated_board_is_in_use(program: Program, capsys: Any) -> None:
    path = program("""
        import asyncio
        from hwloop import i2c
        async def main():
            loop = asyncio.get_running_loop()
            before = loop.time()
            await asyncio.sleep(86400)
            async with i2c.open(1):
                print(type(loop).__name__, loop.time() - before)
        """)
    assert main(["run", path, "--clock", "virtual"]) == 0
    assert capsys.readouterr().out == "SimLoop 86400.0\n"


def test_a_deadlock_report_says_where_each_task_waits_and_nothing_else(program: Program, capsys: Any) -> None:
    path = program("""
        import asyncio
        async def main():
            await asyncio.Event().wait()
        """)
    assert main(["run", path, "--clock", "virtual"]) == 1
    lines = capsys.readouterr().err.splitlines()
    error, message = lines[0].split(": ", 1)
    assert error == "hwloop.virtual.errors.DeadlockError"
    assert message == "nothing can ever wake this program (virtual time 1.000000 s)"
    assert lines[1].startswith("  Task-")
    assert lines[1].endswith(f"called from {path}:4 in main")
    assert len(lines) == 2


def test_a_time_limit_report_shows_the_frames_of_the_program_and_none_of_the_loop(
    program: Program, capsys: Any
) -> None:
    path = program("""
        import asyncio
        import hwloop
        async def main():
            while True:
                await asyncio.sleep(1)
        def start():
            hwloop.run(main())
        start()
        """)
    assert main(["run", path, "--clock", "virtual", "--limit", "5"]) == 1
    report = capsys.readouterr().err
    assert re.findall(r'^  File "(.*)", line (\d+), in', report, re.MULTILINE) == [(path, "9"), (path, "8")]
    assert "the limit of 5 s of virtual time has passed" in report
    assert re.search(rf"^  Task-\d+ waits at .*{re.escape(path)}:6 in main$", report, re.MULTILINE)


ORDER = """
    import asyncio
    import hwloop
    async def main():
        order = []
        async def step(number):
            order.append(number)
        await asyncio.gather(*map(step, range(8)))
        print(order, flush=True)
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
    async def fail():
        raise hwloop.HardwareError("the wire", "it is loose", "look at it")
    """


def test_a_seed_gives_the_same_order_again_and_a_failure_tells_it(
    program: Program, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HWLOOP_SEED", raising=False)
    path = program(ORDER)
    told = []
    for seed in ("1", "1", "2"):
        assert main(["run", path, "--clock", "virtual", "--seed", seed]) == 1
        told.append(capsys.readouterr())
    assert told[0] == told[1]
    assert told[1].out != told[2].out
    assert told[2].err.endswith("\nin virtual time with seed=2; the same seed runs it again\n")


def test_a_random_seed_is_printed_with_the_line_that_runs_it_again(program: Program, monkeypatch: Any) -> None:
    monkeypatch.delenv("HWLOOP_SEED", raising=False)
    path = program(ORDER)
    arguments = ("run", path, "--clock", "virtual", "--seed", "random")
    out, err = start(*arguments, PYTEST_CURRENT_TEST="").communicate(timeout=30)
    setting, _, command = err.rstrip().rpartition("to run it again: ")[2].partition(" ")
    assert command == f"python -m hwloop run {path} --clock virtual --seed random"
    name, _, seed = setting.partition("=")
    again = start(*command.split()[3:], **{name: seed}, PYTEST_CURRENT_TEST="")
    assert again.communicate(timeout=30) == (out, err)


def test_a_limit_ends_a_program_that_never_ends(program: Program, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = program("import asyncio\nasync def main():\n    while True:\n        await asyncio.sleep(1)\n")
    monkeypatch.setenv("HWLOOP_LIMIT", "30")
    for options, limit in ([], 30), (["--limit", "60"], 60):
        assert main(["run", path, "--clock", "virtual", *options]) == 1
        told = capsys.readouterr().err
        assert f"the limit of {limit} s of virtual time has passed" in told
        assert f"{path}:4 in main" in told
    monkeypatch.setenv("HWLOOP_LIMIT", "soon")
    assert main(["run", path, "--clock", "virtual"]) == 2
    assert "HWLOOP_LIMIT must be a number of virtual seconds above 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "1"], "--seed needs --clock virtual: in real time orders can't be repeated"),
        (["--seed", "x"], "a seed is a whole number, or random, not 'x'"),
        (["--limit", "60"], "--limit needs --clock virtual: real time can't be limited"),
        (["--clock", "virtual", "--limit", "0"], "a limit is a number of virtual seconds above 0, or inf, not '0'"),
        (["--clock", "virtual", "--seed", "5", "--board", "linux"], "real hardware knows real time only"),
        (["--clock", "virtual"], "HWLOOP_SEED must be a whole number, not 'many'"),
    ],
)
def test_options_of_virtual_time_that_make_no_sense_are_rejected(
    options: list[str], message: str, program: Program, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWLOOP_SEED", "many")
    assert main(["run", program("async def main(): pass"), *options]) == 2
    assert message in capsys.readouterr().err


FORK = """
    import asyncio, os, signal, sys
    from hwloop import board, gpio
    from hwloop.core import registry as running

    def child():
        \"\"\"What a forked child has, as its exit status.\"\"\"
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)]
        if handlers != [signal.SIG_DFL, signal.SIG_DFL, signal.default_int_handler] or running.supervisor is not None:
            return 3
        async def watch():
            async with gpio.watch(5, pull="up") as line:
                return line.value
        return asyncio.run(watch())

    async def main():
        async with gpio.output(27, initial=1, safe=0) as lamp:
            pid = os.fork()
            if pid == 0:
                if "wait" in sys.argv:
                    os.write(ready, b"x")
                    signal.pause()
                asyncio._set_running_loop(None)
                os._exit(child())
            if "wait" in sys.argv:
                os.read(begun, 1)
                os.kill(pid, int(sys.argv[2]))
            print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), lamp.value)

    begun, ready = os.pipe()
    import warnings
    warnings.simplefilter("ignore")
    asyncio.run(main())
    """


def test_a_forked_child_is_its_own_and_has_the_handlers_that_there_were(program: Program) -> None:
    with start("run", program(FORK), "--board", "sim") as child:
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (0, "1 1\n", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_forked_child(program: Program, number: signal.Signals) -> None:
    with start("run", program(FORK), "--board", "sim", "--", "wait", str(int(number))) as child:
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (0, f"{-number} 1\n", "")


def test_a_daemon_process_of_multiprocessing_ends_with_the_program(program: Program) -> None:
    path = program("""
        import asyncio, multiprocessing, time
        async def main():
            context = multiprocessing.get_context("fork")
            context.Process(target=time.sleep, args=(60,), daemon=True).start()
            other = context.Process(target=time.sleep, args=(60,))
            other.start()
            other.terminate()
            await asyncio.to_thread(other.join)
            print(other.exitcode)
        if __name__ == "__main__":
            import warnings
            warnings.simplefilter("ignore")
            asyncio.run(main())
        """)
    with start("run", path, "--board", "sim") as child:
        out, err = child.communicate(timeout=30)
    assert (child.returncode, out, err) == (0, "-15\n", "")


@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [
        ("try:\n    asyncio.run(main())\nexcept KeyboardInterrupt:\n    print('bye')", 0, ["cleaned up", "bye"]),
        ("asyncio.run(main())", 143, ["cleaned up"]),
        ("asyncio.new_event_loop().run_until_complete(main())", 143, ["cleaned up"]),
        (
            "loop = asyncio.new_event_loop()\ntask = loop.create_task(main())\n"
            "try:\n    loop.run_forever()\nexcept KeyboardInterrupt:\n    print('interrupted')\ntask.cancel()\n"
            "try:\n    loop.run_until_complete(task)\nexcept asyncio.CancelledError:\n    print('bye')\nloop.close()",
            0,
            ["interrupted", "cleaned up", "bye"],
        ),
        (
            "try:\n    asyncio.run(main())\nexcept KeyboardInterrupt:\n    pass\nasyncio.run(main())",
            143,
            ["cleaned up", "cleaned up"],
        ),
    ],
    ids=["caught", "asyncio.run", "run_until_complete", "run_forever", "run again"],
)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_signal_comes_out_of_the_programs_own_run_as_keyboard_interrupt(
    program: Program, capsys: Any, ending: str, status: int, said: list[str]
) -> None:
    path = program(
        textwrap.dedent("""
        import asyncio, signal
        async def main():
            asyncio.get_running_loop().call_later(0.01, signal.raise_signal, signal.SIGTERM)
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(0.001)
                print("cleaned up")
        """)
        + ending.replace("asyncio.new_event_loop().run_until", "loop = asyncio.new_event_loop()\nloop.run_until")
    )
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        assert main(["run", path]) == status
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().out.splitlines() == said


def test_systemd_hears_once_of_a_program_that_runs_itself(
    program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(tmp_path / "notify"))
        systemd.settimeout(10)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "30000000")
        monkeypatch.delenv("WATCHDOG_PID", raising=False)
        path = program("""
            import asyncio, hwloop
            async def main(): await asyncio.sleep(0.01)
            hwloop.run(main())
            asyncio.run(main())
            """)
        assert main(["run", path]) == 0
        heard = [systemd.recv(100).decode()]
        while heard[-1] != "STOPPING=1":
            heard.append(systemd.recv(100).decode())
    assert heard == ["READY=1", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]


@pytest.mark.parametrize(
    ("ends", "further", "status"),
    [("raise", False, -signal.SIGTERM), ("raise", True, -signal.SIGTERM), ("return 0", False, 0)],
)
@pytest.mark.slow
def test_threads_that_outlive_the_program_are_named_and_the_process_ends_without_them(
    program: Program, ends: str, further: bool, status: int
) -> None:
    path = program(f"""
        import asyncio, atexit, threading, time
        from hwloop import gpio

        def work():
            print("working", flush=True)
            while {further} and gpio.outputs():
                time.sleep(0.01)
            if {further}:
                print("outputs closed", flush=True)
            threading.Event().wait(1000)

        async def main():
            atexit.register(print, "exit handler", flush=True)
            gpio.output(27, safe=0).open()
            threading.Thread(target=work, name="worker").start()
            threading.Thread(target=threading.Event().wait, daemon=True).start()
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                {ends}
    """)
    within = 60 if further else 0.1
    code = f"import hwloop.cli; hwloop.cli.THREADS_WITHIN = {within}; hwloop.cli.script()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "run", path, "--board", "sim"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "working\n"
        child.terminate()
        if further:
            assert child.stdout.readline() == "outputs closed\n"
            child.terminate()
        out, err = child.communicate(timeout=20)
    assert child.returncode == status
    assert out == "exit handler\n"
    if not further:
        assert err == (
            "hwloop: the program has ended, and 0.1 s after it not yet its threads: worker; the process ends without "
            "them; end them on SIGTERM, or make them daemon threads\n"
        )
