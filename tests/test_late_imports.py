"""Nothing is imported from the dispatch loop: on a small board a module takes as long as a thousand edges.

A loop or a source has loaded all that it needs when it is made or opened, whatever then happens for the first time:
the five hundredth timer, a thread, an output, a report. Each program here runs in a process of its own, because only
the first import of a module takes time.
"""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]

WATCHING = """
import asyncio, logging, os, sys, threading, time, warnings
import hwloop
from hwloop import Priority

watched, imported = [], []

def note(event, args):
    if watched and event == "import":
        frame, where = sys._getframe(1), []
        while frame is not None and len(where) < 12:
            if "importlib" not in frame.f_code.co_filename:
                where.append(f"{frame.f_code.co_filename}:{frame.f_lineno}")
            frame = frame.f_back
        imported.append(f"{args[0]} from {' '.join(where)}")

sys.addaudithook(note)
logging.basicConfig(stream=open(os.devnull, "w"))
"""

SOON = """
async def main():
    loop = asyncio.get_running_loop()
    loop.watch_slices(0.02, demote=True)
    loop.set_deadline_handler(lambda loop, miss: None)
    ends = [os.pipe() for _ in range(2)]
    reader, writer = ends[0]
    seen = []
    watched.append("from now on")
    loop.add_reader(reader, lambda: seen.append(os.read(reader, 1)))
    loop.add_writer(ends[1][1], lambda: loop.remove_writer(ends[1][1]))
    ticking = loop.call_every(0.001, lambda: seen.append("tick"))
    for number in range(20):
        loop.call_tolerant(loop.time() + 0.003 * number, seen.append, "tolerant", tolerance=0.005)

    def send():
        for _ in range(600):
            os.write(writer, b"!")
            time.sleep(0.0005)

    thread = threading.Thread(target=send)
    thread.start()
    lock, queue, event = asyncio.Lock(), asyncio.Queue(), asyncio.Event()

    async def busy():
        while thread.is_alive():  # so that the loop looks without waiting, beside a thread
            async with lock:
                await queue.put(1)
            await queue.get()
            await hwloop.checkpoint()
            await asyncio.sleep(0)

    def late():
        time.sleep(0.03)

    async def slow():
        time.sleep(0.03)
        await asyncio.sleep(0)

    busy_task = hwloop.create_task(busy(), priority=Priority.LOW)
    loop.call_deadline(loop.time() + 1e-6, late)
    loop.call_deadline(loop.time() + 1e-6, late)
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon_threadsafe(late)
    await hwloop.create_task(slow(), priority=Priority.HIGH, deadline=1e-6)
    hwloop.reschedule(busy_task, priority=Priority.NORMAL)
    ticker = hwloop.every(0.001, deadline=1e-6)
    for _ in range(550):
        await anext(ticker)
    try:
        async with asyncio.timeout(0.001):
            await event.wait()
    except TimeoutError:
        pass
    async for _ in hwloop.sliced(range(100), budget=1e-5):
        pass
    await busy_task
    await asyncio.to_thread(time.sleep, 0.001)
    ticking.cancel()
    loop.remove_reader(reader)
    watched.clear()
    thread.join()
    for end in (*ends[0], *ends[1]):
        os.close(end)
    assert seen.count("tick") > 100 and len(seen) > 700, len(seen)

hwloop.run(main())
"""

ON_A_BOARD = """
from hwloop import gpio, i2c, serial
from hwloop.sources.serial import Lines

BOARD = {
    "device": [
        {"type": "button", "line": 17, "press_every": 0.1, "hold": 0.03},
        {"type": "button", "line": 5, "press_every": 0.15, "hold": 0.03},
        {"type": "wire", "lines": [22, 27]},
        {"type": "bme280"},
        {"type": "gps", "port": "/dev/ttyAMA0", "interval": 0.5},
    ]
}

async def main():
    loop = asyncio.get_running_loop()
    seen = []
    async with (
        gpio.watch(17, pull="up") as button,
        gpio.watch(22) as wire,
        gpio.clicks(5) as clicks,
        gpio.output(27, initial=0, safe=0) as relay,
        serial.open("/dev/ttyAMA0", 9600, framing=Lines()) as port,
        i2c.open(1) as bus,
    ):
        chip = bus.device(0x76)

        async def read():
            return await chip.read_block(0xF7, 8)

        def edge(edge):
            seen.append("edge")
            if len(seen) == 3:
                raise ValueError("the third")

        async def consume(source, name):
            async for event in source:
                seen.append(name)

        async with bus.poll(read, every=0.05) as readings:
            watched.append("from now on")
            button.on_edge(edge)
            loop.call_every(0.001, lambda: seen.append("tick"))
            tasks = [
                asyncio.create_task(consume(source, name))
                for source, name in [(wire, "wire"), (port, "line"), (readings, "reading"), (clicks, "click")]
            ]
            for number in range(30):
                relay.set(number % 2)
                if number == 20:
                    port.write(b"!")
                await asyncio.sleep(0.03)
            await relay.pulse(0.001)
            relay.blink(0.01, n=3)
            await chip.transfer(bytes([0xD0]), 1)
            await chip.write_register(0xF4, 0x27)
            await bus.run(lambda smbus: smbus.read_byte_data(0x76, 0xD0))
            try:
                await bus.device(0x50).read_register(1)
            except hwloop.HardwareError as error:
                str(error)
            await port.drain()
            loop.statistics()
            watched.clear()
            for task in tasks:
                task.cancel()
    assert {"edge", "wire", "line", "reading", "tick"} <= set(seen), set(seen)

hwloop.run(main(), board=BOARD, clock=CLOCK)
"""


@pytest.mark.parametrize(
    "program",
    [SOON, f"CLOCK = 'real'\n{ON_A_BOARD}", f"CLOCK = 'virtual'\n{ON_A_BOARD}"],
    ids=["without sources", "on a board", "on a board in virtual time"],
)
def test_nothing_is_imported_from_the_dispatch_loop(program, tmp_path):
    (tmp_path / "program.py").write_text(f"{WATCHING}{textwrap.dedent(program)}\nsys.exit('\\n'.join(imported) or 0)\n")
    done = subprocess.run(
        [sys.executable, "program.py"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
