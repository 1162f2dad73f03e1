"""A stage for traces: the loop on a clock that only moves when a callback says so, with every look written down."""

from __future__ import annotations

import os
import selectors
from collections.abc import Callable, Iterator

import pytest

import hwloop


class Watchful(selectors.SelectSelector):
    """Writes each look into the trace; waiting takes no time, only the stage's."""

    def __init__(self, trace: list[str]) -> None:
        super().__init__()
        self.trace = trace
        self.waited: Callable[[float | None], None] = lambda timeout: None
        self.looked: Callable[[list[tuple[selectors.SelectorKey, int]]], None] = lambda found: None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.trace.append("look")
        found = super().select(0)
        if not found:
            self.waited(timeout)
        self.looked(found)
        return found


class Stage(hwloop.EventLoop):
    """`work(name, took)` makes a callback that notes its name and takes `took` microseconds; `trace` is what ran."""

    def __init__(self) -> None:
        self.trace: list[str] = []
        self.clock = 1.0
        self.waits: list[float | None] = []
        selector = Watchful(self.trace)
        selector.waited = self._waited
        super().__init__(selector)

    def time(self) -> float:
        return self.clock

    def _waited(self, timeout: float | None) -> None:
        if timeout:
            self.waits.append(timeout)
            self.clock += timeout
        elif timeout is None:
            raise AssertionError(f"nothing will ever wake this loop; so far {self.trace}")

    def work(self, name: str, took: float = 0.0, then: Callable[[], object] | None = None) -> Callable[[], None]:
        def callback() -> None:
            self.trace.append(name)
            self.clock += took * 1e-6
            if then is not None:
                then()

        return callback

    def edge(
        self, callback: Callable[[], object], priority: hwloop.Priority = hwloop.Priority.NORMAL
    ) -> Callable[[], None]:
        """A source read by `callback`, once per call of what is returned."""
        source = Edge(callback, priority)
        self.register(source)
        return source.happen

    def play(self, microseconds: float = 0.0) -> list[str]:
        """Run until nothing is left to do now, or for so long; returns the trace without the looks."""
        if microseconds:
            self.call_later(microseconds * 1e-6, self.stop)
        else:
            self.call_soon_priority(hwloop.Priority.IDLE, self.stop)
        self.run_forever()
        return [name for name in self.trace if name != "look"]


class Edge:
    """A pipe that is readable once for each time that the edge happens."""

    def __init__(self, callback: Callable[[], object], priority: hwloop.Priority) -> None:
        self.reader, self.writer = os.pipe()
        self.callback = callback
        self.priority = priority

    def fileno(self) -> int:
        return self.reader

    def happen(self) -> None:
        os.write(self.writer, b"!")

    def on_readable(self) -> None:
        os.read(self.reader, 1)
        self.callback()

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


@pytest.fixture
def stage() -> Iterator[Stage]:
    loop = Stage()
    yield loop
    loop.close()
