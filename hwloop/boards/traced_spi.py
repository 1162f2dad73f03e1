"""An SPI device of a real board with a tracer: each transfer is recorded.

spidev's `SpiDev` is written in C and takes no other methods, so this is an object around it. Transfers that a driver
makes by other methods than `xfer`, `xfer2` and `xfer3` are not recorded.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Sequence
from typing import Any

from hwloop.board_interface import Board
from hwloop.spi_device import SpiDev, SpiRequest
from hwloop.trace_events import SpiTransfer

_RECORDED = ("xfer", "xfer2", "xfer3")


class TracedSpi:
    """A `SpiDev` that records its transfers with the tracer of the board, while the board has one."""

    def __init__(self, board: Board, device: SpiDev, request: SpiRequest) -> None:
        vars(self).update(_board=board, _device=device, _request=request)

    def __getattr__(self, name: str) -> Any:
        found = getattr(vars(self)["_device"], name)
        return self._traced(found) if name in _RECORDED else found

    def __setattr__(self, name: str, value: object) -> None:
        setattr(vars(self)["_device"], name, value)

    def _traced(self, call: Callable[..., Sequence[int]]) -> Callable[..., Sequence[int]]:
        board, request = vars(self)["_board"], vars(self)["_request"]

        def record(start_ns: int, sent: bytes, received: bytes, error: str) -> None:
            if board.tracer is not None:
                place = request.bus, request.select
                board.tracer.record(SpiTransfer(start_ns, time.monotonic_ns(), *place, sent, received, error))

        def traced(values: Sequence[int], *settings: int) -> Sequence[int]:
            start_ns, sent = time.monotonic_ns(), bytes(value & 0xFF for value in values)
            try:
                answer = call(values, *settings)
            except OSError as error:
                record(start_ns, sent, b"", errno.errorcode.get(error.errno or 0, str(error.errno)))
                raise
            record(start_ns, sent, bytes(answer), "")
            return answer

        return traced
