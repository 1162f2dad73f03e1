"""Plain gpiozero scripts on hwloop's factories, and how they end: in silence, with their status, and at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import NamedTuple

import pytest

PATH = os.pathsep.join([str(Path(__file__).parents[2]), *filter(None, [os.environ.get("PYTHONPATH")])])

HEAD = textwrap.dedent(
    """
    import asyncio, gc, os, signal, sys, threading, time
    from gpiozero import LED, PWMLED, Button, Device, MotionSensor
    from gpiozero.pins.mock import MockPWMPin
    from firmware_sim import SimBoard
    from hwloop.pins import LoopFactory, SimFactory

    def until(condition):
        give_up = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < give_up
            time.sleep(0.001)

    def kill(number):
        threading.Timer(0.05, lambda: os.kill(os.getpid(), number)).start()

    board = SimBoard()
    Device.pin_factory = FACTORY
    led, follower, pwm = LED(27), LED(25), PWMLED(24)
    button, motion = Button(22, hold_time=0.01, hold_repeat=True), MotionSensor(4, queue_len=2, partial=True)
    led.blink(0.005, 0.005)
    pwm.pulse(0.05, 0.05)
    follower.source = led
    seen = []
    button.when_pressed = lambda: seen.append("pressed")
    button.when_held = lambda: seen.append("held")
    button.when_released = lambda: seen.append("released")
    line = board.chip.line(22)
    line.drive(0)
    until(lambda: "held" in seen)
    """
)
FACTORIES = {"hwloop": "LoopFactory(board)", "hwloop-sim": "SimFactory(board=board, pin_class=MockPWMPin)"}


class Script(NamedTuple):
    text: str
    status: int = 0
    traceback: str = ""
    out: str = ""


SCRIPTS = {
    "falls off its end": Script(""),
    "sys.exit": Script("sys.exit(3)", 3),
    "an exception": Script("raise RuntimeError('mine')", 1, "RuntimeError: mine"),
    "closes its devices": Script("for it in (led, follower, pwm, button, motion): it.close()"),
    "ends in with": Script("with led, follower, pwm, button, motion: led.on()"),
    "closes the factory": Script("Device.pin_factory.close()"),
    "closes the board": Script("board.close()"),
    "os._exit": Script("os._exit(4)", 4),
    "exits in handlers": Script(
        """
        button.when_pressed = sys.exit
        button.when_held = lambda: sys.exit(5)
        for place in range(1, 4):
            line.drive(1)
            until(lambda: seen.count("released") == place)
            line.drive(0)
        print(seen.count("released"))
        """,
        out="3\n",
    ),
    "Ctrl-C": Script("kill(signal.SIGINT); signal.pause()", -2, "KeyboardInterrupt"),
    "Ctrl-C while it waits": Script(
        """
        kill(signal.SIGINT)
        try:
            button.wait_for_release()
        except KeyboardInterrupt:
            sys.exit(9)
        """,
        9,
    ),
    "SIGTERM": Script("signal.signal(signal.SIGTERM, lambda *_: sys.exit(7)); kill(signal.SIGTERM); signal.pause()", 7),
    "threads go on": Script(
        """
        def work():
            while True:
                line.drive(1)
                line.drive(0)
        threading.Thread(target=work, daemon=True).start()
        threading.Timer(0.05, lambda: line.drive(1)).start()
        """
    ),
    "cycles": Script("box = [led, button]; box.append(box); button.when_pressed = lambda: box; del led, button, box"),
    "slow and waiting handlers": Script(
        """
        async def later():
            await asyncio.sleep(60)
        button.when_held = lambda: time.sleep(0.2)
        button.when_released = later
        line.drive(1)
        until(lambda: not button.is_active)
        """
    ),
    "after a run": Script(
        """
        import hwloop
        async def main():
            asyncio.get_running_loop().slow_callback_duration = 60  # debug mode would report a busy machine
            await asyncio.sleep(0.02)
        hwloop.run(main(), board=board)
        """
    ),
    "an exit in a handler on a loop": Script(
        """
        import hwloop
        async def main():
            asyncio.get_running_loop().slow_callback_duration = 60
            button.when_released = lambda: sys.exit(6)
            line.drive(1)
            await asyncio.sleep(60)
        hwloop.run(main(), board=board)
        """,
        6,
    ),
    "devices made at exit": Script("import atexit; atexit.register(lambda: LED(6).blink())"),
}


STAGE = """
import json, os, sys, time, warnings

warnings.filterwarnings("ignore", message=".*multi-threaded.*fork")
scripts = json.load(sys.stdin)
children = {}
for name, text in scripts.items():
    outputs = [os.memfd_create(name) for _ in range(2)]
    child = os.fork()
    if child == 0:
        for number, output in enumerate(outputs, 1):
            os.dup2(output, number)
        children = scripts = None
        break
    children[name] = child, outputs
else:
    results, give_up = {}, time.monotonic() + 100
    for name, (child, outputs) in children.items():
        while not (ended := os.waitpid(child, os.WNOHANG))[0]:
            time.sleep(0.01)
            if time.monotonic() > give_up:
                os.kill(child, 9)
        said = [os.pread(output, 1 << 20, 0).decode() for output in outputs]
        results[name] = os.waitstatus_to_exitcode(ended[1]), *said
    print(json.dumps(results), flush=True)
    os._exit(0)
exec(compile(text, name, "exec"))
"""


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.slow
def test_scripts_end_in_silence_with_their_status(factory: str) -> None:
    """Each in a fork of one process that has imported all they need, which takes far longer than they do."""
    imports, _, head = HEAD.partition("def until")
    head = "def until" + head.replace("FACTORY", FACTORIES[factory])
    texts = {name: head + textwrap.dedent(script.text) for name, script in SCRIPTS.items()}
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", imports + "import hwloop.runner, hwloop.core.event_loop\n" + STAGE],
        env={**os.environ, "PYTHONPATH": PATH},
        input=json.dumps(texts),
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    wrong = {}
    for name, (status, out, said) in json.loads(done.stdout).items():
        script = SCRIPTS[name]
        lines = said.splitlines()
        right = lines == [] if not script.traceback else lines[-1] == script.traceback and said.count("Traceback") == 1
        if (status, out) != (script.status, script.out) or not right:
            wrong[name] = (status, out, said)
    assert wrong == {}


def test_a_factory_that_only_its_devices_know_is_closed_too() -> None:
    text = """
    import atexit
    def look():
        print(board.chip.line(5).consumer, board.chip.line(6).consumer)
    atexit.register(look)  # before gpiozero's own, so that it runs afterwards
    """
    more = """
    board = SimBoard()
    factory = LoopFactory(board)
    led, button = LED(5, pin_factory=factory), Button(6, pin_factory=factory)
    led.blink(0.001, 0.001)
    board.chip.line(6).drive(0)
    until(lambda: button.active_time is not None)
    """
    script = textwrap.dedent(text) + HEAD.partition("board = SimBoard()")[0] + textwrap.dedent(more)
    environment = {**os.environ, "PYTHONPATH": PATH, "PYTHONDEVMODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.stdout, done.stderr, done.returncode) == ("None None\n", "", 0)
