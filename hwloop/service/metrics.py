"""Metrics for Prometheus without a server of the program's own.

    with exported("/run/hwloop/door/door.prom"):     # for node_exporter's textfile collector
        hwloop.run(main())

`hwloop run --metrics` does the same. A thread asks the loop for its figures, makes the text, and writes the file or
answers requests. It never takes more of the loop than one callback of ordinary urgency, at most twice a second,
however often somebody asks: the text is made in pieces, between which other threads get the interpreter, and whoever
reads slowly keeps that thread waiting. A loop that does not answer within a second is a fact to be reported: then the
text has the figures from before, their age, and the lag of the loop.

prometheus_client makes the text, and the metrics of the program's own that it has registered there are in it.
"""

from __future__ import annotations

import contextlib
import contextvars
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from typing import Any

from hwloop.core import registry
from hwloop.core.naming import error_text
from hwloop.service import figures
from hwloop.service.metric_errors import MetricsError

try:
    import prometheus_client
    from prometheus_client.exposition import choose_encoder
except ImportError as _missing:
    raise MetricsError(
        "metrics need the package prometheus_client: pip install prometheus_client, or apt install "
        "python3-prometheus-client"
    ) from _missing

from hwloop.service.metric_families import Answer, Family, families
from hwloop.service.metric_target import Target, opener

logger: logging.Logger = logging.getLogger("hwloop.service")

LONGEST_WAIT = 1.0
"""Seconds that a request waits for the loop."""

SHORTEST_INTERVAL = 0.5
"""Seconds from one collection of figures to the next, at least."""

OF_THE_PROCESS = ("process_", "python_")
"""Metrics of prometheus_client about the process. In a file they would collide with node_exporter's about itself."""


class Probe:
    """Asks the running loop for its figures from another thread; a follower, see `hwloop.core.registry`."""

    def __init__(self) -> None:
        self._loops: list[Any] = []
        self._loops.extend(registry.follow(self))
        self._asking = threading.Lock()
        self._figures: figures.Figures | None = None
        self._taken = self._asked = 0.0
        self._lag = 0.0
        self._answered: threading.Event | None = None

    def loop_started(self, loop: Any) -> None:
        self._loops.append(loop)

    def loop_ended(self, loop: Any) -> None:
        if loop in self._loops:
            self._loops.remove(loop)
        if not self._loops and (waiting := self._answered) is not None:
            self._answered = None
            waiting.set()

    def ask(self) -> Answer:
        """Return the figures of the oldest loop that runs; they may be half a second old, or older if it is blocked."""
        with self._asking:
            loop = next(iter(self._loops), None)
            now = time.monotonic()
            if loop is not None and self._answered is None and now - self._taken >= SHORTEST_INTERVAL:
                self._asked, self._answered = now, threading.Event()
                try:
                    loop.call_soon_threadsafe(self._take, loop, self._answered, context=contextvars.Context())
                except RuntimeError:  # closed meanwhile
                    self._answered = None
            if (answered := self._answered) is not None:
                answered.wait(LONGEST_WAIT)
            now = time.monotonic()
            lag = self._lag if self._answered is None else now - self._asked
            age = 0.0 if now - self._taken < 2 * SHORTEST_INTERVAL else now - self._taken
            return Answer(self._figures, loop is not None, lag, age)

    def _take(self, loop: Any, answered: threading.Event) -> None:
        """Collect the figures, on the loop."""
        try:
            self._figures = figures.collect(loop)
            self._taken = time.monotonic()
            self._lag = self._taken - self._asked
        finally:
            if self._answered is answered:
                self._answered = None
            answered.set()


class Exporter:
    """Exports the metrics of this process, from `start()` to `stop()`.

    Parameters:
        target: where to.
        program: the value of the label `program`.
    """

    def __init__(self, target: Target, program: str) -> None:
        self._target = target
        self._program = program
        self._probe = Probe()
        self._process = os.getpid()
        self._thread = threading.Thread(target=self._serve, name="metrics", daemon=True)
        self._is_reported = False

    def start(self) -> None:
        """Begin. Call it once."""
        _exporters.add(self)
        self._thread.start()

    def stop(self) -> None:
        """End, and remove what was written. Harmless when repeated, and in a forked child."""
        if self._process == os.getpid():
            registry.unfollow(self._probe)
            self._target.end()
            if self._thread.is_alive():
                self._thread.join(LONGEST_WAIT)

    def forget(self) -> None:
        """Leave all of it to the parent, in a forked child."""
        self._target.forget()

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """Return the metrics and their content type, in the format that a client accepts."""
        encode, content_type = choose_encoder(accept)
        return encode(self), content_type  # type: ignore[arg-type,unused-ignore]

    def collect(self) -> Iterator[Family]:
        """Yield all metrics: those of hwloop, then those that the program has registered with prometheus_client."""
        for family in families(self._probe.ask(), self._program):
            yield family
            time.sleep(0)  # lets the loop have the interpreter
        try:
            for family in prometheus_client.REGISTRY.collect():
                if self._target.shows_process or not family.name.startswith(OF_THE_PROCESS):
                    yield family
                    time.sleep(0)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            if not self._is_reported:
                self._is_reported = True
                logger.exception("metrics of the program can't be read: %s (reported once)", error_text(error))

    def _serve(self) -> None:
        self._target.serve(self.text)


def _forget() -> None:
    for exporter in list(_exporters):
        exporter.forget()


_exporters: weakref.WeakSet[Exporter] = weakref.WeakSet()
os.register_at_fork(after_in_child=_forget)


@contextlib.contextmanager
def exported(target: str, *, program: str = "") -> Iterator[Exporter]:
    """Export the metrics of the loop that runs in this block.

    `target` is the path of a file that ends in .prom, which is written every 15 seconds and removed at the end;
    "unix:/run/x.sock", or "127.0.0.1:9101", where the metrics are served. `program` is the value of the label
    `program`, by default the name of the file that runs. Raises `MetricsError` for a target that makes no sense or
    can't be used.
    """
    program = program or os.path.splitext(os.path.basename(sys.argv[0]))[0] or "python"
    exporter = Exporter(opener(target)(), program)
    exporter.start()
    try:
        yield exporter
    finally:
        exporter.stop()
