"""The cost of recording: CPU time for an event, and the share of one core at a thousand events a second.

    python benchmarks/recorder.py [--events 100000] [--seconds 5] [--rounds 5]

The first table has the CPU time for one event, by kind and store. The second compares a program that changes a line a
thousand times a second in real time, with a flight recorder and without one, in turn.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import hwloop
from hwloop import gpio
from hwloop.board import Board
from hwloop.recording import Recorder, RecordingFile, Ring
from hwloop.recording.recorder import Store
from hwloop.trace_events import I2cMessage, I2cTransfer, LineChange, SerialData, TraceEvent
from hwloop_bench import command


def cost(store: Store, events: Sequence[TraceEvent]) -> float:
    """Return the CPU time for one event, in microseconds."""
    recorder, board = Recorder(store), Board()
    recorder.attach(board)
    started = time.process_time()
    for event in events:
        recorder.record(event)
    taken = time.process_time() - started
    recorder.close()
    return taken / len(events) * 1e6


def share(seconds: float, recorder: str | None) -> float:
    """Return the share of one core that a program with a thousand changes of a line a second takes, in percent."""

    async def main() -> float:
        async with gpio.output(27, initial=0) as output:
            started, end = time.process_time(), time.monotonic() + seconds
            async for _ in hwloop.every(0.001):
                output.toggle()
                if time.monotonic() > end:
                    break
            return (time.process_time() - started) / seconds * 100

    return hwloop.run(main(), board={}, recorder=recorder)


def main() -> None:
    parser = argparse.ArgumentParser(description="What does recording cost?")
    parser.add_argument("--events", type=command.count, default=100_000, help="events of each kind (100000)")
    parser.add_argument("--seconds", type=command.duration, default=5.0, help="of each run of the program (5)")
    parser.add_argument("--rounds", type=command.count, default=5, help="runs with and without a recorder (5)")
    arguments = parser.parse_args()
    count = arguments.events
    messages = (I2cMessage(0x76, "sent", b"\xf7"), I2cMessage(0x76, "received", bytes(8)))
    kinds: dict[str, list[TraceEvent]] = {
        "edge": [LineChange(n, 17, n & 1, "the button on line 17") for n in range(count)],
        "8 serial bytes": [SerialData(n, "/dev/ttyAMA0", "received", bytes(8)) for n in range(count)],
        "I2C transfer": [I2cTransfer(n, n + 1, 1, messages, "") for n in range(count)],
    }
    with tempfile.TemporaryDirectory() as directory:
        print(f"{'CPU time for one event':24}{'ring':>10}{'file':>10}")
        for kind, events in kinds.items():
            ring = cost(Ring(f"{directory}/ring", 8 << 20), events)
            file = cost(RecordingFile(f"{directory}/{kind}", buffer=1 << 30), events)
            print(f"  {kind:22}{ring:7.2f} us{file:7.2f} us")
        shares: dict[str, list[float]] = {"without": [], "with": []}
        for _ in range(arguments.rounds):
            shares["without"].append(share(arguments.seconds, None))
            shares["with"].append(share(arguments.seconds, f"{directory}/ring,8M"))
        without, recorded = (statistics.median(each) for each in shares.values())
        print(f"1000 events a second: {without:.2f} % of a core without, {recorded:.2f} % with a flight recorder")


if __name__ == "__main__":
    main()
