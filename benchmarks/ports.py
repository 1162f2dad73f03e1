"""How many lines a serial port carries a second of CPU time, through a pseudo-terminal that another process fills.

    python benchmarks/ports.py [--quick]

`lines` is hwloop's serial source with framing, on any loop; `descriptor` is the least that a program can do itself: the
loop's add_reader, a read, and splitlines.
"""

from __future__ import annotations

import os
import time
import tty

import script

from hwloop import board
from hwloop.sources import serial
from hwloop_bench.processes import Case, Taken, new_loop

LINE = b"$GPRMC,120000.00,A,4807.05419,N,01131.00200,E,12.21,90.00,010126,,,A*52\r\n"


def source(loop: str, seconds: float) -> Taken:
    done = 0

    async def main(port: str) -> None:
        nonlocal done
        end = time.monotonic() + seconds
        async with serial.open(port, 921600, framing=serial.Lines(), queue_size=65536) as lines:
            async for _ in lines:
                done += 1
                if time.monotonic() >= end:
                    break

    port = _filled_port()
    with board.using("linux"):
        start = time.process_time()
        new_loop(loop).run_until_complete(main(port))
    return Taken({"lines/CPU s": done / (time.process_time() - start)})


def descriptor(loop: str, seconds: float) -> Taken:
    events = new_loop(loop)
    done = 0
    rest = b""

    def on_readable() -> None:
        nonlocal done, rest
        *lines, rest = (rest + os.read(port, 4096)).split(b"\r\n")
        done += len(lines)

    port = os.open(_filled_port(), os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    events.add_reader(port, on_readable)
    events.call_later(seconds, events.stop)
    start = time.process_time()
    events.run_forever()
    return Taken({"lines/CPU s": done / (time.process_time() - start)})


def _filled_port() -> str:
    """A terminal's name; another process writes lines into it for as long as it is open."""
    device, terminal = os.openpty()
    tty.setraw(terminal)
    name = os.ttyname(terminal)
    if not os.fork():
        os.close(terminal)
        try:
            while True:
                os.write(device, LINE * 50)
        except OSError:
            pass  # closed on the other side
        finally:
            os._exit(0)
    os.close(device)
    return name


CASES = [
    Case("serial-lines", "serial source with lines, through a pseudo-terminal", source),
    Case("serial-descriptor", "descriptor of a pseudo-terminal", descriptor),
]

if __name__ == "__main__":
    script.main(CASES)
