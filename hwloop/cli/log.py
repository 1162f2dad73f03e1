"""Print a recording, or convert it to a waveform or a table.

    hwloop log run.hwlog
    hwloop log run.hwlog --line 17 --port /dev/ttyAMA0 --from 10 --to 12.5
    hwloop log flight.ring --run 2 --out flight.csv

The file is a recording of `hwloop record`, or a ring of `hwloop run --recorder`, which a program may be writing
meanwhile. A ring has the last runs of a service; the very last one is printed unless --run chooses another. Each event
has its number, as `hwloop replay` names it, and its time in seconds since the start of the recording. --line, --port
and --bus select events; several of them add up.
"""

from __future__ import annotations

import argparse
import datetime
import itertools
import signal
from collections.abc import Iterator

from hwloop.cli import Failure, UsageError, say
from hwloop.recording import Ended, Event, Lost, RecordingError, Run, Signalled, read
from hwloop.trace_events import I2cTransfer, LineChange, SerialData, SerialFrame, SpiTransfer


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="the recording")
    parser.add_argument("--run", type=int, metavar="N", help="in a ring: the run, 1 for the oldest; default: the last")
    parser.add_argument("--line", type=int, action="append", metavar="N", help="changes of this line; repeatable")
    parser.add_argument("--port", action="append", metavar="PORT", help="data of this serial port; repeatable")
    parser.add_argument("--bus", type=int, action="append", metavar="N", help="transfers on this I2C bus; repeatable")
    parser.add_argument("--spi", action="append", metavar="BUS.SELECT", help="SPI transfers, such as 0.1; repeatable")
    parser.add_argument("--from", dest="start", type=float, metavar="SECONDS", help="events from this time on")
    parser.add_argument("--to", dest="end", type=float, metavar="SECONDS", help="events up to this time")
    parser.add_argument("--out", metavar="TRACE", help="write a trace instead, in the format of its suffix: trace.csv")


def execute(arguments: argparse.Namespace) -> int:
    run, position, count = chosen_run(arguments.file, arguments.run)
    events = _selected(run, arguments)
    if arguments.out is not None:
        _convert(events, arguments.out)
    else:
        for line in _header(run, position, count):
            say(f"# {line}\n")
        for number, event in events:
            say(f"{number:6}  {(event.when_ns - run.header.start_ns) / 1e9:13.6f}  {described(event)}\n")
        if run.ending:  # the events were read to their end
            say(f"# {_ending(run)}\n")
    if run.ending == "damaged":
        raise Failure(f"{arguments.file}: {_ending(run)}")
    return 0


def chosen_run(path: str, number: int | None) -> tuple[Run, int, int]:
    """Return a run of a recording, its number, and the number of runs. Raises `Failure` and `UsageError`."""
    try:
        runs = read(path)
    except RecordingError as error:
        raise Failure(str(error)) from error
    if not runs:
        raise Failure(f"{path}: the ring is empty; no program has recorded into it yet")
    if number is None:
        number = len(runs)
    if not 1 <= number <= len(runs):
        raise UsageError(f"{path}: there is no run {number}; the recording has {len(runs)}")
    return runs[number - 1], number, len(runs)


def described(event: Event) -> str:
    """Return an event in words."""
    if isinstance(event, Lost):
        return f"{event.events} events are missing here: they could not be written in time"
    if isinstance(event, Signalled):
        return f"the program received {signal.Signals(event.number).name}"
    if isinstance(event, Ended):
        return f"the program ended{_with(event.status)}"
    from firmware_sim.trace.wording import describe_fully

    return describe_fully(event)


def _with(status: str) -> str:
    if status.isdigit():
        return f" with status {status}"
    return f" by {status}" if status else ""


def _selected(run: Run, arguments: argparse.Namespace) -> Iterator[tuple[int, Event]]:
    """Yield the selected events with their numbers."""
    wanted = {
        LineChange: ("line", arguments.line),
        SerialData: ("port", arguments.port),
        SerialFrame: ("port", arguments.port),
        I2cTransfer: ("bus", arguments.bus),
        SpiTransfer: ("device", arguments.spi),
    }
    anything = not (arguments.line or arguments.port or arguments.bus or arguments.spi)
    start_ns = run.header.start_ns
    for number, event in enumerate(run, 1):
        after = (event.when_ns - start_ns) / 1e9
        if arguments.start is not None and after < arguments.start:
            continue
        if arguments.end is not None and after > arguments.end:
            continue
        name, values = wanted.get(type(event), ("", None))
        if anything or (values and getattr(event, name) in values):
            yield number, event


def _convert(events: Iterator[tuple[int, Event]], path: str) -> None:
    from firmware_sim.trace import write

    kept = (event for _, event in events if not isinstance(event, Lost | Signalled | Ended))
    try:
        write(kept, path)
    except ValueError as error:
        raise UsageError(str(error)) from error
    except ImportError as error:
        raise UsageError(f"--out {path}: {error}") from error
    except OSError as error:
        raise Failure(f"{path}: {str(error.strerror).lower()}") from error


def _header(run: Run, position: int, count: int) -> Iterator[str]:
    header = run.header
    board = header.board or "no board"
    kind = "simulated" if header.simulated else "real"
    time = "virtual" if header.virtual else "real"
    yield f"board    {board}" + (f" ({kind}, {time} time)" if header.board else "")
    yield " ".join(itertools.chain(["program ", header.program or "unknown"], header.arguments))
    started = datetime.datetime.fromtimestamp(header.started_at_ns / 1e9).astimezone()
    yield f"started  {started:%Y-%m-%d %H:%M:%S %z}, process {header.process}, hwloop {header.hwloop}"
    if count > 1:
        yield f"run      {position} of {count}; --run chooses another"
    if not header.first:
        yield "the beginning of this run has been overwritten by its later events"


def _ending(run: Run) -> str:
    """Return how a recording ends."""
    return {
        "closed": "the recording was closed in order",
        "open": "the recording has no end: the program was killed, or still runs",
        "cut": f"the recording is cut off within a record, at byte {run.end_offset}",
        "damaged": f"the recording is damaged at byte {run.end_offset}; the events before it are correct",
    }[run.ending]
