"""The threads of a script under test: they wait in virtual time, take turns, and end with the script."""

from __future__ import annotations

import datetime
import functools
import gc
import os
import signal
import sys
import threading
import time
import types

import gpiozero
import pytest
import smbus2

import hwloop
from hwloop.testing import script as scripts
from hwloop.testing.fixture import BoardFixture
from hwloop.testing.program_modules import KEPT
from hwloop.testing.settings import Settings
from hwloop.virtual.locks import Lock

PARTS = {
    "device": [
        {"type": "button", "name": "door", "line": 17, "bounce": 0.003},
        {"type": "led", "name": "lamp", "line": 27},
        {"type": "bme280"},
    ]
}

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.hwloop(board=PARTS)


sleep_really = functools.partial(time.sleep, 0.5)  # `time.sleep` itself is the board's


WAITS = """
import queue, threading, time
from concurrent.futures import ThreadPoolExecutor

began, said = time.monotonic(), []

def say(*words):
    said.append((*words, round(time.monotonic() - began, 3)))

def work():
    for number in range(3):
        time.sleep(10)
        numbers.put(number)

numbers = queue.Queue()
worker = threading.Thread(target=work)
worker.start()
say("got", numbers.get())
worker.join(2)
say("joined", worker.is_alive())
worker.join()
event = threading.Event()
threading.Timer(60, event.set).start()
say("event", event.wait(5), event.wait())
lock = threading.Lock()
def hold():
    with lock:
        time.sleep(4)
threading.Thread(target=hold).start()
time.sleep(1)
say("lock", lock.acquire(timeout=1), lock.acquire())
simple = queue.SimpleQueue()
threading.Timer(2, simple.put, ["x"]).start()
say("simple", simple.get())
with ThreadPoolExecutor() as pool:
    say("pool", *pool.map(lambda seconds: time.sleep(seconds) or seconds, [3, 1, 2]))
"""


def test_threads_timers_locks_and_queues_wait_on_the_clock_of_the_board(board, script):
    with script(WAITS) as run:
        board.advance(200)
        assert run.done
    assert run.names["said"] == [
        ("got", 0, 10.0),
        ("joined", True, 12.0),
        ("event", False, True, 90.0),
        ("lock", False, True, 94.0),
        ("simple", "x", 96.0),
        ("pool", 3, 1, 2, 99.0),
    ]


HANDLERS = """
from signal import pause
from threading import Thread
from time import sleep
from gpiozero import LED, PWMLED, Button

lamp, glow, button = LED(27), PWMLED(22), Button(17, hold_time=2)

def follow():
    while button.is_pressed:
        glow.value = (glow.value + 0.1) % 1
        sleep(0.5)
    glow.off()

def flicker():
    while True:
        lamp.toggle()
        sleep(0.7)

button.when_pressed = follow
Thread(target=flicker, daemon=True).start()
pause()
"""


def test_a_handler_that_loops_while_a_button_is_pressed_holds_up_nothing(board, script):
    with script(HANDLERS) as run:
        board["door"].press()
        board.advance(10)
        assert run.names["glow"].value > 0
        board["door"].release()
        board.advance(1)
        assert run.names["glow"].value == 0
        assert len(board.trace.pulses(27)) >= 7


def test_each_run_gives_the_same_trace(tmp_path):
    (tmp_path / "script.py").write_text(HANDLERS)
    traces = []
    for _ in range(2):
        board = BoardFixture(Settings(board=PARTS, directory=tmp_path, kept=KEPT))
        with board.in_use(), board.script("script.py"):
            for _ in range(3):
                board["door"].click()
                board.advance(0.9)
        traces.append(list(map(str, board.trace)))
    assert len(traces[0]) > 200
    assert traces[0] == traces[1]


def test_a_script_that_ends_closes_its_devices_and_calls_its_exit_functions(board, script):
    text = """
import atexit, threading, time
from gpiozero import LED

led, order = LED(27), []
led.on()

@atexit.register
def clean_up():
    time.sleep(1)
    order.append("exit")

def work():
    time.sleep(5)
    order.append("worked")

threading.Thread(target=work).start()
threading.Thread(target=time.sleep, args=[1e6], daemon=True).start()
order.append("ended")
"""
    with script(text) as run:
        board.advance(4)
        assert not run.done
        assert board["lamp"].lit
        board.advance_until(lambda: run.done, within=3)
        assert board.outputs == {}
        assert run.names["order"] == ["ended", "worked", "exit"]


def test_a_script_has_signal_handlers_of_its_own(board, script):
    text = """
import signal, sys, time
got = []

def stop(number, frame):
    got.append(signal.Signals(number).name)
    time.sleep(2)
    if number == signal.SIGINT:
        sys.exit()

before = signal.signal(signal.SIGTERM, stop)
signal.signal(signal.SIGINT, stop)
time.sleep(5)
got.append("slept")
signal.pause()
got.append("paused")
while True:
    time.sleep(1)
"""
    real = signal.getsignal(signal.SIGTERM)
    with script(text) as run:
        board.advance(1)
        run.send_signal(signal.SIGTERM)
        board.advance(10)
        assert run.names["got"] == ["SIGTERM", "slept"]
        run.send_signal(signal.SIGTERM)
        board.advance(3)
        with pytest.raises(ValueError, match="no handler for SIGHUP, which would end its process"):
            run.send_signal(signal.SIGHUP)
    assert run.names["got"] == ["SIGTERM", "slept", "SIGTERM", "paused", "SIGINT"]
    assert run.names["before"] == signal.SIG_DFL
    assert signal.getsignal(signal.SIGTERM) == real


def test_a_clean_up_may_take_its_time(board, script):
    text = """
import time
from gpiozero import LED
led = LED(27)
led.on()
try:
    while True:
        time.sleep(60)
finally:
    time.sleep(3)
    cleaned = True
"""
    with script(text) as run:
        board.advance(1)
        began = board.clock.now_ns()
    assert run.names["cleaned"]
    assert board.clock.now_ns() - began == pytest.approx(3e9, abs=1e7)


def test_threads_that_never_end_are_ended_with_the_script_wherever_they_wait(board, script):
    text = """
import queue, threading, time
from signal import pause
from gpiozero import Button

def beat():
    while True:
        try:
            time.sleep(1)
        except Exception:
            pass

def wait():
    lock.acquire()

lock = threading.Lock()
lock.acquire()
threads = [threading.Thread(target=target) for target in (beat, wait, queue.Queue().get, threading.Event().wait)]
for thread in threads:
    thread.start()
button = Button(17)
button.when_pressed = beat
pause()
"""
    with script(text) as run:
        board["door"].press()
        board.advance(10)
        assert [line.partition(" waits at ")[0] for line in run.waits()] == [
            "  script script.py",
            *(f"  {thread.name}" for thread in run.names["threads"][:2]),
        ]
    assert not any(thread.is_alive() for thread in run.names["threads"])


def test_a_thread_that_can_not_be_ended_is_named(board, script, monkeypatch):
    monkeypatch.setattr(scripts, "PATIENCE", 0.3)
    text = """
import threading, time
over = False

def stubborn():
    while not over:
        try:
            time.sleep(1)
        except BaseException:
            pass

threading.Thread(target=stubborn, name="mule", daemon=True).start()
time.sleep(1e6)
"""

    def test():
        with script(text) as run:
            runs.append(run)
            board.advance(1)

    runs = []
    with pytest.raises(
        AssertionError, match=r"does not end: it catches what ends it.*\n  mule waits at .*script.py:\d"
    ):
        test()
    runs[0].names["over"] = True
    board.advance(1)


def test_an_exception_in_a_thread_fails_the_test(board, script):
    text = "import threading, time\nthreading.Timer(3, lambda: 1 / 0).start()\ntime.sleep(100)\n"
    with pytest.raises(ZeroDivisionError) as raised, script(text):
        board.advance(50)
    assert raised.value.__notes__[0].startswith("raised in the thread 'Thread-")
    assert board.clock.now_ns() < 10e9


def test_the_exception_of_a_thread_is_reported_in_its_turn(board, script, monkeypatch):
    """Time would pass before a loaded machine reports it."""
    in_turn = []
    python = sys.modules["threading"]  # the one of this module is the board's
    hook = python.excepthook

    def note(failure):
        in_turn.append(threading.get_ident() in board.clock.members)
        hook(failure)

    monkeypatch.setattr(python, "excepthook", note)
    text = "import threading, time\nthreading.Timer(3, lambda: 1 / 0).start()\ntime.sleep(100)\n"
    with pytest.raises(ZeroDivisionError), script(text):
        board.advance(50)
    assert in_turn == [True]


def test_no_time_passes_while_a_thread_ends(board, script, monkeypatch):
    """A loaded machine leaves it without the processor at any place after its last turn."""
    delete = threading.Thread._delete
    monkeypatch.setattr(threading.Thread, "_delete", lambda self: [delete(self), sleep_really()])
    text = "import threading, time\nthreading.Timer(3, lambda: 1 / 0).start()\ntime.sleep(100)\n"
    began_ns = board.clock.now_ns()
    with pytest.raises(ZeroDivisionError), script(text):
        board.advance(50)
    assert board.clock.now_ns() - began_ns == 3e9


def test_each_run_imports_the_modules_of_the_script_afresh(board, script, tmp_path):
    (tmp_path / "hardware_of_test.py").write_text("from gpiozero import LED\nlamp = LED(27)\n")
    for _ in range(2):
        with script("import time, hardware_of_test\nhardware_of_test.lamp.on()\ntime.sleep(100)\n"):
            board.advance(1)
            assert board["lamp"].lit


def test_the_sleep_of_an_installed_driver_is_on_the_clock_of_the_board(board, script, monkeypatch):
    driver = types.ModuleType("driver_of_test")
    exec(
        "import threading, time\nfrom time import sleep\nlock = threading.Lock()\nready = threading.Event()\n"
        "class Reader(threading.Thread):\n"
        "    def run(self):\n        with lock:\n            sleep(2)\n        ready.set()\n"
        "def read():\n    Reader().start()\n    time.sleep(0.1)\n    with lock:\n        return ready.wait(5)\n",
        vars(driver),
    )
    vars(driver)["__name__"] = "driver_of_test"
    monkeypatch.setitem(sys.modules, "driver_of_test", driver)
    driver.Reader.__module__ = "driver_of_test"
    with script(
        "import driver_of_test, time\nbegan = time.monotonic()\nread = driver_of_test.read()\n"
        "took = time.monotonic() - began\ntime.sleep(100)\n"
    ) as run:
        board.advance(10)
        assert (run.names["read"], run.names["took"]) == (True, 2)


def test_libraries_have_pythons_own_names_again_after_the_test():
    assert gpiozero.threads.GPIOThread.__bases__ == (threading.Thread,)
    assert gpiozero.input_devices.sleep is time.sleep


def test_a_lock_of_the_program_behaves_as_pythons_own_in_other_threads():
    lock = Lock()
    assert lock.acquire()
    assert not lock.acquire(timeout=0.01)
    threading.Timer(0.01, lock.release).start()
    assert lock.acquire(timeout=60)
    lock.release()
    with pytest.raises(RuntimeError, match="release unlocked lock"):
        lock.release()
    with pytest.raises(ValueError, match="can't specify a timeout for a non-blocking call"):
        lock.acquire(blocking=False, timeout=1)


async def test_a_script_in_an_async_test_says_what_to_do(board):
    with pytest.raises(RuntimeError, match="write 'def' instead of 'async def'"):
        board.script(__file__)


def test_a_wait_that_nothing_can_end_shows_the_line_of_the_test(board):
    with pytest.raises(hwloop.DeadlockError) as raised:
        threading.Event().wait()
    assert "Session" not in str(raised.value)


@pytest.mark.hwloop(board=PARTS, clock="real")
def test_in_real_time_the_threads_of_a_script_are_ended_where_they_wait(board, script):
    text = """
import queue, signal, threading, time
from gpiozero import LED, Button

def sleep_on():
    lamp.on()
    while True:
        time.sleep(1e6)

lamp, button = LED(27), Button(17)
button.when_pressed = sleep_on
threads = [threading.Thread(target=target) for target in (sleep_on, queue.Queue().get)]
for thread in threads:
    thread.start()
signal.pause()
"""
    with script(text) as run:
        board["door"].press()
        board.advance_until(lambda: board["lamp"].lit, within=30)
        assert time.monotonic() > 1
    assert not any(thread.is_alive() for thread in run.names["threads"])


LEFT_OPEN = """
import serial, smbus2, time
port = serial.Serial("/dev/ttyAMA0", 9600)
bus = smbus2.SMBus(1)
bus.read_byte_data(0x76, 0xD0)
file = open("/dev/i2c-1", "r+b", buffering=0)
time.sleep(100)
"""


@pytest.mark.hwloop(board={"device": [{"type": "bme280"}, {"type": "gps", "port": "/dev/ttyAMA0"}]})
def test_files_that_a_script_has_left_open_are_closed_and_nothing_is_closed_later(board, script):
    ioctl = vars(smbus2.smbus2)["ioctl"]
    with script(LEFT_OPEN) as run:
        board.advance(2)
        objects = [run.names[name] for name in ("port", "bus", "file")]
        numbers = {each.fd if isinstance(each, smbus2.SMBus) else each.fileno() for each in objects}
    assert vars(smbus2.smbus2)["ioctl"] is ioctl
    others = [os.open("/dev/null", os.O_RDONLY) for _ in range(20)]
    assert numbers <= {*others}
    run.names.clear()
    objects.clear()
    gc.collect()
    for number in others:
        os.close(number)  # raises if it is closed already


@pytest.mark.hwloop(board=PARTS, clock="real")
def test_in_real_time_a_thread_that_never_waits_is_ended_too(board, script):
    text = """
import signal, threading

def count():
    number = 0
    while True:
        number += 1

thread = threading.Thread(target=count)
thread.start()
signal.pause()
"""
    with script(text) as run:
        board.advance(0.1)
    assert not run.names["thread"].is_alive()


@pytest.mark.hwloop(board=PARTS, date="2026-12-24 17:59")
def test_a_script_finds_the_date_of_the_test_and_time_passes(board, script):
    text = """
import datetime
import time
from datetime import date, datetime as DateTime, timedelta
from gpiozero import LED

class Logged(DateTime):
    pass

lamp = LED(27)
today, kinds = date.today(), (type(DateTime.now()), type(DateTime(2026, 1, 1)), type(Logged(2026, 1, 1)))
right = isinstance(datetime.datetime.now(), datetime.date), issubclass(Logged, DateTime), not isinstance(1, date)
parsed = DateTime.strptime("2026-12-24", "%Y-%m-%d") + timedelta(days=1)
until = DateTime.now() + timedelta(hours=1)
while DateTime.now() < until:
    lamp.value = 18 <= datetime.datetime.now().hour < 22
    time.sleep(10)
ended = time.strftime("%H:%M"), datetime.datetime.utcnow().tzinfo
"""
    with script(text) as run:
        board.advance(55)
        assert not board["lamp"].lit
        board.advance(10)
        assert board["lamp"].lit
        board.advance(3600)
    names = run.names
    assert str(names["today"]) == "2026-12-24"
    python = type(datetime.datetime(2026, 1, 1))
    assert names["kinds"] == (python, python, names["Logged"])
    assert names["right"] == (True, True, True)
    assert names["parsed"] == datetime.datetime(2026, 12, 25)
    assert names["ended"] == ("18:59", None)


@pytest.mark.parametrize(
    ("mark", "message"),
    [
        ("date='tomorrow'", "date is like '2026-12-24 18:00', not 'tomorrow'"),
        ("date='2026-12-24', clock='real'", "date needs virtual time"),
    ],
)
def test_a_date_that_can_not_be_set_is_an_error(suite, mark, message):
    result = suite(f"import pytest\n\n@pytest.mark.hwloop({mark})\ndef test_dated(board):\n    pass\n")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([f"*{message}*"])
