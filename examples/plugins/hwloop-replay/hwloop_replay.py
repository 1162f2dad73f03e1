"""A board that replays recorded edges: each row of the file REPLAY is a time in seconds, a line and its level."""

import os
from pathlib import Path

from hwloop.board import Board, Edge, EdgeRequest, EdgeStream, LineName, Losses


class Recording(EdgeStream):
    def __init__(self, request: EdgeRequest, path: Path) -> None:
        self.losses = Losses()
        self._fd = os.eventfd(1)  # readable from the beginning
        rows = [row.split() for row in path.read_text().splitlines()]
        edges = [(int(line), int(level), round(float(time) * 1e9)) for time, line, level in rows]
        self._edges = [Edge(*edge, received_ns=edge[2], lost=0) for edge in edges if edge[0] in request.lines]
        self._levels = dict.fromkeys(request.lines, 0)

    def fileno(self) -> int:
        return self._fd

    def read(self) -> list[Edge]:
        edges, self._edges = self._edges, []
        if edges:
            os.eventfd_read(self._fd)
        self._levels |= {edge.line: edge.value for edge in edges}
        return edges

    def level(self, line: LineName) -> int:
        return self._levels[line]

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class ReplayBoard(Board):
    label = "replay"

    def open_edges(self, request: EdgeRequest) -> EdgeStream:
        return Recording(request, Path(os.environ["REPLAY"]))
