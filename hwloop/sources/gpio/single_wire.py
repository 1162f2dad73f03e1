"""Edges of an output while its line is released, for buses of one wire: `Output.edges`.

A DHT22 answers 20 to 40 µs after its line is released (Aosong, AM2302 data sheet), so there is no time to close an
output and to open a watch. The board switches the line to input instead (`OutputLine.watch`), and its edges arrive here
as from any source.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from hwloop.board import Edge, EdgeStream, OutputLine
from hwloop.core.urgency import Priority
from hwloop.sources.source import Source


class OutputEdges(Source[Edge]):
    """The edges that other devices make on the line of an output.

    Parameters:
        name: the output's.
        device: returns its line. Raises RuntimeError where it is not open.
    """

    def __init__(self, name: str, device: Callable[[], OutputLine]) -> None:
        super().__init__(name=name, priority=Priority.INTERRUPT)
        self._opened = device
        self._stream: EdgeStream | None = None

    def on_edge(self, callback: Callable[[Edge], object]) -> None:
        """Call `callback(edge)` straight from the reader: `add_callback` by the name that suits lines."""
        self.add_callback(callback)

    def connect(self) -> int:
        self._stream = self._opened().watch(self._read_soon)
        return self._stream.fileno()

    def receive(self) -> Iterable[Edge]:
        assert self._stream is not None
        edges = self._stream.read()
        for edge in edges:
            if edge.lost:
                self.count_lost(edge.lost)
        return edges

    def disconnect(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()

    def _read_soon(self) -> None:
        """Deliver edges that were read before the line was driven again. Called from any thread."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        if asyncio._get_running_loop() is loop:
            loop.call_soon(self._read_kept)
        else:
            loop.call_soon_threadsafe(self._read_kept)

    def _read_kept(self) -> None:
        if self._stream is not None and not self.closed:
            self.read_now()
