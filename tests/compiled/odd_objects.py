"""Use the objects of the core as nobody should: without their parts, with wrong values in them, with wrong arguments.

    python odd_objects.py [--seed N]

Objects of each class that can be compiled are made without `__init__`, or taken from a loop. Their attributes are read,
deleted and replaced, and their methods are called with values of all kinds. Any exception will do. A process that dies
shows that C has used what is not there, and the last line of its output names what was done.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import importlib
import inspect
import os
import random
import selectors
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

import hwloop  # noqa: E402  # this checkout's

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts)
    for folder in ("hwloop", "firmware_sim")
    for path in (ROOT / folder).rglob("*.pxd")
    if path.stem != "native"
)
NOT_SET = {("Override", "change"), ("TimerQueue", "_overdue")}
"""Attributes by which an object could lead to itself: C follows them without a limit."""
NOT_CALLED = {"run_forever", "run_until_complete"}
"""Methods that may begin an endless run of the loop."""
LONGEST = 0.2
"""Seconds after which a call is interrupted: it waits for what never comes."""
ROUNDS = 20


def classes() -> Iterator[type]:
    for name in MODULES:
        module = importlib.import_module(name)
        for each in vars(module).values():
            if inspect.isclass(each) and each.__module__ == module.__name__ and not issubclass(each, BaseException):
                yield each


def objects(loop: Any) -> list[Any]:
    """Return objects of all kinds, with their parts and without."""
    made = [loop, loop.dispatcher, loop._run_queue, loop._timers, loop._poller, loop._monitor, loop._clock]
    made += [loop.call_soon(print), loop.call_later(9, print), loop._run_queue.urgent, loop._urgencies, loop._ready]
    made += [None, 0, -1, 2**70, 1.5, float("nan"), "text", b"bytes", (), [], {}, object(), print, int, (1, 2, 3)]
    for each in classes():
        with contextlib.suppress(Exception):
            made.append(each.__new__(each))
    return made


def misuse(pick: random.Random, used: Any, values: list[Any]) -> None:
    """Do something wrong with an object."""
    names = [name for name in dir(used) if not name.startswith("__") or name in ("__init__", "__repr__", "__hash__")]
    name = pick.choice(names)
    what = pick.choice(("get", "set", "delete", "call", "call", "call"))
    print(type(used).__name__, name, what, flush=True)
    with contextlib.suppress(Exception):
        if what == "set":
            if (type(used).__name__, name) not in NOT_SET:
                setattr(used, name, pick.choice(values))
        elif what == "delete":
            delattr(used, name)
        else:
            found = getattr(used, name)
            if what == "call" and callable(found) and name not in NOT_CALLED:
                arguments = [pick.choice(values) for _ in range(pick.randrange(4))]
                signal.setitimer(signal.ITIMER_REAL, LONGEST)
                try:
                    found(*arguments)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)


def interrupt(number: int, frame: object) -> None:
    raise TimeoutError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0, help="what is drawn (%(default)s)")
    pick = random.Random(parser.parse_args().seed)
    faulthandler.enable()
    faulthandler.dump_traceback_later(600, exit=True)
    warnings.simplefilter("ignore")
    sys.unraisablehook = threading.excepthook = lambda report: None
    signal.signal(signal.SIGALRM, interrupt)
    os.closerange(3, 10)
    for number in range(3, 40):  # whatever closes a descriptor that is not its own may have these
        os.open(os.devnull, os.O_RDONLY) if number else None
    for _ in range(ROUNDS):
        try:
            loop = hwloop.EventLoop(selectors.EpollSelector())
        except OSError:
            continue  # an object of an earlier round has closed a number that it had closed before
        pair = socket.socketpair()
        values = objects(loop)
        for used in values:
            if type(used).__module__.startswith(("hwloop.", "firmware_sim.")):
                for _ in range(12):
                    misuse(pick, used, values)
        with contextlib.suppress(Exception):
            loop.call_soon(loop.stop)
            loop._stopping = True
            signal.setitimer(signal.ITIMER_REAL, LONGEST)
            loop._run_once()
        signal.setitimer(signal.ITIMER_REAL, 0)
        with contextlib.suppress(Exception):
            loop.close()
        for each in pair:
            with contextlib.suppress(OSError):
                each.close()
    print("survived", flush=True)
    os._exit(0)


if __name__ == "__main__":
    main()
