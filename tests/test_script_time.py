"""`hwloop run --clock virtual` for scripts: every wait that can be redirected lets virtual time pass."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
BOARD = """
[[device]]
type = "led"
line = 27

[[device]]
type = "button"
line = 17
press_every = 90.0
hold = 3.0

[[device]]
type = "gps"
port = "/dev/ttyAMA0"
interval = 10.0
"""
Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    (tmp_path / "board.toml").write_text(BOARD)

    def start(source: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        (tmp_path / "script.py").write_text(textwrap.dedent(source))
        command = [sys.executable, "-u", "-m", "hwloop", "run", "script.py", "--board", "board.toml"]
        return subprocess.Popen(
            [*command, "--clock", "virtual", *arguments],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        )

    return start


def ended(process: subprocess.Popen[str]) -> tuple[int, list[str], str]:
    """Status, lines of output, and errors."""
    output, errors = process.communicate(timeout=60)
    return process.returncode, output.splitlines(), errors


def test_threads_locks_and_queues_wait_in_virtual_time(start: Start) -> None:
    status, lines, errors = ended(
        start("""
            import queue, threading, time
            from concurrent.futures import ThreadPoolExecutor

            began = time.monotonic()

            def said(*words):
                print(*words, "at", round(time.monotonic() - began, 3))

            def work():
                for number in range(3):
                    time.sleep(10)
                    numbers.put(number)

            numbers = queue.Queue()
            worker = threading.Thread(target=work)
            worker.start()
            said("got", numbers.get())
            try:
                numbers.get(timeout=3)
            except queue.Empty:
                said("empty")
            worker.join(2)
            said("joined", worker.is_alive())
            worker.join()
            said("joined", worker.is_alive())

            event = threading.Event()
            threading.Timer(60, event.set).start()
            said("event", event.wait(5), event.wait())

            lock, done = threading.Lock(), threading.Condition()
            def hold():
                with lock:
                    time.sleep(4)
                with done:
                    done.notify_all()
            threading.Thread(target=hold).start()
            time.sleep(1)
            said("lock", lock.acquire(timeout=1), lock.acquire())
            lock.release()

            again = threading.RLock()
            with again, again:
                said("reentrant", again.acquire(blocking=False), again.locked())
                again.release()
            slots = threading.BoundedSemaphore(1)
            said("semaphore", slots.acquire(), slots.acquire(timeout=7))
            barrier = threading.Barrier(2)
            threading.Thread(target=lambda: (time.sleep(5), barrier.wait())).start()
            said("barrier", barrier.wait() in (0, 1))
            simple = queue.SimpleQueue()
            threading.Timer(2, simple.put, ["x"]).start()
            said("simple", simple.get())
            with ThreadPoolExecutor() as pool:
                said("pool", *pool.map(lambda seconds: time.sleep(seconds) or seconds, [3, 1, 2]))
            threading.Thread(target=lambda: (time.sleep(100), said("last"))).start()
            """)
    )
    assert (status, errors) == (0, "")
    assert lines == [
        "got 0 at 10.0",
        "empty at 13.0",
        "joined True at 15.0",
        "joined False at 30.0",
        "event False True at 90.0",
        "lock False True at 94.0",
        "reentrant True True at 94.0",
        "semaphore True False at 101.0",
        "barrier True at 106.0",
        "simple x at 108.0",
        "pool 3 1 2 at 111.0",
        "last at 211.0",
    ]


def test_gpiozero_lgpio_and_pyserial_wait_in_virtual_time(start: Start) -> None:
    pytest.importorskip("gpiozero")
    status, lines, errors = ended(
        start("""
            import time
            began = time.time()
            import lgpio, serial
            from gpiozero import LED, Button

            def said(*words):
                print(*words, "at", round(time.time() - began, 1))

            led, button = LED(27), Button(17, hold_time=2)
            button.when_pressed = lambda: said("pressed")
            button.when_held = lambda: said("held")
            led.blink(1, 1, n=5)
            said("wait", button.wait_for_press(timeout=300))
            said("lit", led.is_lit)
            while time.time() - began < 100:
                pass
            said("busy")
            handle = lgpio.gpiochip_open(0)
            lgpio.gpio_claim_output(handle, 22, 0)
            lgpio.tx_pwm(handle, 22, 10, 50)
            high = 0
            for _ in range(100):
                time.sleep(0.013)
                high += lgpio.gpio_read(handle, 22)
            print(40 < high < 60)
            with serial.Serial("/dev/ttyAMA0", 9600, timeout=4) as port:
                said(port.read(1))
                port.timeout = None
                said(port.readline()[:3])
            while not button.is_pressed:
                time.sleep(0.5)
            print("again")
            """)
    )
    assert (status, errors) == (0, "")
    assert lines[:4] == ["pressed at 90.0", "wait True at 90.0", "lit False at 90.0", "held at 92.0"]
    assert lines[4].startswith("busy at 100.")
    assert lines[5] == "True"
    assert lines[6].startswith("b'' at 105.")
    assert lines[7].startswith("b'$GP' at 110.")
    assert lines[8:10] == ["pressed at 180.0", "again"]


def test_select_waits_in_virtual_time_and_for_the_world(start: Start) -> None:
    status, lines, errors = ended(
        start("""
            import os, select, subprocess, threading, time

            read, write = os.pipe()

            def said(what, found):
                global began
                print(what, [each == read for each in found[0]], round(time.monotonic() - began, 3))
                began = time.monotonic()

            def waited():
                said("nothing", select.select([read], [], [], 5))
                os.write(write, b"x")
                said("at once", select.select([read], [], [], 5))
                os.read(read, 1)
                threading.Timer(3, os.write, (write, b"x")).start()
                said("after a while", select.select([read], [], [], 5))
                os.read(read, 1)
                threading.Timer(2, os.write, (write, b"x")).start()
                while not select.select([read], [], [], 0)[0]:
                    pass
                print("polled", 2 <= time.monotonic() - began < 3)
                os.read(read, 1)

            began = time.monotonic()
            waited()
            began = time.monotonic()
            other = threading.Thread(target=waited)
            other.start()
            other.join()
            child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            child.stdin.close()
            print("a child", select.select([child.stdout], [], []) == ([child.stdout], [], []))
            child.wait()
        """)
    )
    assert (status, errors) == (0, "")
    once = ["nothing [] 5.0", "at once [True] 0.0", "after a while [True] 3.0", "polled True"]
    assert lines == [*once, *once, "a child True"]


def test_every_form_of_the_date_is_that_of_virtual_time(start: Start) -> None:
    status, lines, errors = ended(
        start("""
            import time, datetime
            from datetime import datetime as moment
            began = time.localtime().tm_min
            time.sleep(120)
            minutes = [time.asctime()[14:16], time.ctime()[14:16], time.strftime("%M"), time.localtime().tm_min,
                       time.gmtime().tm_min, time.localtime(time.time()).tm_min, datetime.datetime.now().minute,
                       moment.now().minute, moment.fromtimestamp(time.time_ns() / 1e9).minute]
            print({(int(minute) - began) % 60 for minute in minutes})
            given = time.gmtime(0)
            print(time.asctime(given), time.ctime(0)[-4:] in ("1970", "1969"), time.strftime("%Y-%j", given))
        """)
    )
    assert (status, lines, errors) == (0, ["{2}", "Thu Jan  1 00:00:00 1970 True 1970-001"], "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_script_that_never_ends_is_ended_by_a_signal_and_cleans_up(start: Start, number: signal.Signals) -> None:
    process = start("""
        import signal, threading, time
        threading.Thread(target=lambda: [time.sleep(1) for _ in iter(int, 1)], daemon=True).start()
        try:
            print("waiting")
            signal.pause()
        finally:
            print("cleaned up")
        """)
    assert process.stdout is not None
    assert process.stdout.readline() == "waiting\n"
    process.send_signal(number)
    status, lines, errors = ended(process)
    assert (status, lines, errors) == (-number, ["cleaned up"], "")


def test_pause_ends_with_a_signal_that_the_script_handles(start: Start) -> None:
    source = """
        import os, signal, threading, time
        signal.signal(signal.SIGUSR1, lambda number, frame: print("handled"))
        threading.Timer(5, os.kill, [os.getpid(), signal.SIGUSR1]).start()
        began = time.monotonic()
        signal.pause()
        print(time.monotonic() - began)
        """
    assert ended(start(source)) == (0, ["handled", "5.0"], "")


@pytest.mark.parametrize(
    ("source", "arguments", "message"),
    [
        ("import signal\nsignal.alarm(3)", [], "a script in virtual time can't wait in it"),
        (
            "import time\nwhile True:\n    time.sleep(1)",
            ["--limit", "500"],
            "the limit of 500 s of virtual time has passed",
        ),
        ("import threading\nthreading.Event().wait()", [], "waits for an event that never comes"),
    ],
)
def test_a_wait_that_can_not_end_shows_its_place_and_the_reason(
    start: Start, source: str, arguments: list[str], message: str
) -> None:
    status, _, errors = ended(start(source, *arguments))
    assert status == 1
    assert "the script waits at script.py:" in errors or message.startswith("a script")
    assert message in errors
    assert "Traceback" not in errors


def test_a_script_that_pauses_for_ever_shows_where_each_thread_waits(start: Start) -> None:
    pytest.importorskip("gpiozero")
    source = """
        import signal, threading, time
        from gpiozero import Button

        def sleep_on():
            while True:
                time.sleep(10)

        button = Button(17)
        button.when_pressed = sleep_on
        threading.Thread(target=sleep_on, name="worker", daemon=True).start()
        signal.pause()
        """
    status, _, errors = ended(start(source, "--limit", "1000"))
    assert status == 1
    assert errors.splitlines()[1:] == [
        "  the script waits at script.py:12 in <module>",
        "  worker waits at script.py:7 in sleep_on",
        "  a handler waits at script.py:7 in sleep_on",
    ]


def test_a_seed_and_a_factory_that_needs_a_loop_are_rejected(start: Start) -> None:
    status, _, errors = ended(start("print(1)", "--seed", "3"))
    assert (status, "--seed is for a program with a loop" in errors) == (2, True)
    status, _, errors = ended(start("print(1)", GPIOZERO_PIN_FACTORY="hwloop"))
    assert (status, "hwloop's pin factories need a loop" in errors) == (2, True)
