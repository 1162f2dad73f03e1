"""SIGTERM at any step of a script's life ends it in order: no traceback, its lines let go, and death by the signal."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
AT_IMPORT = """
import atexit, gc, os, signal, sys

atexit.register(gc.collect)

def hook(event, arguments):
    if event == "import" and arguments[0] == os.environ["AT_IMPORT"]:
        os.environ["AT_IMPORT"] = ""
        os.kill(os.getpid(), signal.SIGTERM)

sys.addaudithook(hook)
"""
"""A sitecustomize.py that sends the signal where the import of a module begins; garbage is collected at the exit."""

LAMP = """
import atexit, os, signal, threading, time
from gpiozero import LED

lamp = LED(27)
lamp.on()

def kill():
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0)  # the signal's handler runs here at the latest

def wait_for_the_end():
    threading.main_thread().join()  # Python waits for this thread meanwhile
    kill()
    print("after the signal", flush=True)
"""

pytestmark = pytest.mark.skipif(importlib.util.find_spec("gpiozero") is None, reason="gpiozero is not installed")


def run(directory: Path, script: str, *options: str, at_import: str = "") -> tuple[int, str, str]:
    """Return the status, the output and the errors of a script."""
    (directory / "script.py").write_text(textwrap.dedent(script))
    (directory / "sitecustomize.py").write_text(AT_IMPORT)
    command = [sys.executable, "-m", "hwloop", "run", "script.py", "--board", "sim", *options]
    done = subprocess.run(
        command,
        cwd=directory,
        env={**os.environ, "PYTHONPATH": f"{directory}:{ROOT}", "AT_IMPORT": at_import},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("module", ["hwloop.cli.program", "firmware_sim.timeline", "gpiozero.mixins"])
def test_sigterm_in_the_middle_of_an_import(tmp_path: Path, module: str) -> None:
    assert run(tmp_path, LAMP, at_import=module) == (-signal.SIGTERM, "", "")


@pytest.mark.parametrize("form", ["a class is made", "a package is imported"])
def test_sigterm_where_python_or_a_package_raises_another_exception_from_it(tmp_path: Path, form: str) -> None:
    (tmp_path / "package.py").write_text(
        "import os, signal\n"
        "try:\n    os.kill(os.getpid(), signal.SIGTERM)\n"
        "except BaseException:\n    raise ImportError('a part of the package is missing')\n"
    )
    script = """
        class Flag:
            def __set_name__(self, owner, name):
                kill()

        if FORM == "a class is made":
            class Device:
                flag = Flag()
        else:
            import package
        """
    assert run(tmp_path, LAMP + f"FORM = {form!r}" + textwrap.dedent(script)) == (-signal.SIGTERM, "", "")


def test_an_exception_of_a_programs_clean_up_is_shown(tmp_path: Path) -> None:
    script = """
        try:
            kill()
        finally:
            lamp.of()
        """
    status, _, errors = run(tmp_path, LAMP + textwrap.dedent(script))
    assert status == 1
    assert "AttributeError" in errors


@pytest.mark.parametrize(
    ("last", "output"),
    [
        ("atexit.register(kill); atexit.register(print, 'first')", "first\n"),
        (
            "threading.Thread(target=wait_for_the_end).start(); atexit.register(print, 'last')",
            "after the signal\nlast\n",
        ),
    ],
)
def test_sigterm_after_the_end_of_a_script_interrupts_no_exit_function(tmp_path: Path, last: str, output: str) -> None:
    assert run(tmp_path, LAMP + last, "--trace", "trace.csv") == (-signal.SIGTERM, output, "")
    assert ",27," in (tmp_path / "trace.csv").read_text()  # written as the last thing, once the board is closed


def test_a_second_signal_ends_an_exit_function_that_goes_on_for_ever(tmp_path: Path) -> None:
    script = LAMP + "atexit.register(lambda: [kill(), print('goes on', flush=True), kill(), threading.Event().wait()])"
    assert run(tmp_path, script) == (-signal.SIGTERM, "goes on\n", "")


def test_an_object_that_uses_lgpio_while_python_clears_up_meets_no_error(tmp_path: Path) -> None:
    status, output, errors = run(
        tmp_path,
        """
        import lgpio

        class Lamp:
            def __init__(self):
                self.handle = lgpio.gpiochip_open(0)
                lgpio.gpio_claim_output(self.handle, 17, 1)

            def __del__(self):
                lgpio.gpio_write(self.handle, 17, 0)
                print("off", flush=True)

        lamp = Lamp()
        raise ValueError("the program's own")
        """,
    )
    assert (status, output, errors.splitlines()[-1]) == (1, "off\n", "ValueError: the program's own")
    assert "Exception ignored" not in errors


@pytest.mark.parametrize("loop", [False, True])
def test_sigterm_waits_for_a_handler_of_gpiozero_as_for_any_thread(tmp_path: Path, loop: bool) -> None:
    (tmp_path / "board.toml").write_text('[[device]]\ntype = "button"\nline = 2\npress_every = 0.1\nhold = 0.05\n')
    status, output, errors = run(
        tmp_path,
        f"""
        import asyncio, os, signal, threading, hwloop.cli
        from gpiozero import Button

        hwloop.cli.THREADS_WITHIN = 0.1

        def stuck():
            if {loop} == (threading.current_thread() is threading.main_thread()):
                os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait()

        button = Button(2)
        button.when_pressed = stuck
        if {loop}:
            asyncio.run(asyncio.sleep(60))
        signal.pause()
        """,
        "--board",
        "board.toml",
        "--grace",
        "0",
    )
    assert (status, output) == (-signal.SIGTERM, "")
    assert "in stuck; its device is closed, and the process ends without it" in errors or loop
    assert "Ctrl-C" not in errors
