"""A port's framer with its calls checked, its losses counted, and its faults reported.

A framer may be user code in the middle of a stream. It must return frames, and a finite number of them, which is
checked here: one that returns something else, or frames without end, fails its port like a device that is gone, and
with `reopen=` starts again. An exception of its checksum function counts as a wrong checksum, and is reported.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

from hwloop.board import Board
from hwloop.core.naming import short_name
from hwloop.sources.serial.device import SerialDevice
from hwloop.sources.serial.framing import Frame, Framer, Raw
from hwloop.trace_events import SerialFrame, Tracer

MOST_FRAMES = 1 << 18
"""Frames that a framer may make of one read, at most: several for each byte of the largest read."""


class CheckedFramer:
    """The framer of one port.

    Parameters:
        name: the port's, for messages.
        framer: cuts the stream into frames.
        count_lost: called with the number of frames lost.
        failed: called with a message and the exception of the framer's check.
    """

    def __init__(
        self,
        name: str,
        framer: Framer,
        count_lost: Callable[[int], None],
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self.framer = framer
        self._name = name
        self._count_lost = count_lost
        self._failed = failed
        self._lost = framer.lost
        self._board: Board | None = None
        self._port = ""

    def check_free(self, user: object) -> None:
        """Raise `ValueError` if the framer is in use at another port."""
        other = self.framer.user
        if other not in (None, user):
            raise ValueError(f"{self._name}: its framer is in use at {short_name(other)}; make one for each port")

    def begin(self, user: object, device: SerialDevice) -> None:
        """Note that the port of `user` is open, and record its frames with the tracer of the board that has it."""
        self.framer.user = user
        self.framer.set_character_time(device.character_time)
        # Without a framing a frame is no more than the data of a read.
        self._board = None if isinstance(self.framer, Raw) else device.board
        self._port = device.name

    def feed(self, data: bytes, now_ns: int) -> Sequence[Frame]:
        """Return the frames that `data` completes. Raises the framer's exception."""
        framer = self.framer
        made = framer.feed(data, now_ns)
        frames = made if type(made) is list and not made else _checked(made)
        if framer.lost != self._lost or framer.check_error is not None:
            self._note()
        if frames and self._board is not None and self._board.tracer is not None:
            self._trace(frames, self._board.tracer)
        return frames

    def flush(self, now_ns: int) -> Sequence[Frame]:
        """Return the frame that ends because the line is silent. Raises the framer's exception."""
        frames = _checked(self.framer.flush(now_ns))
        self._note()
        if frames and self._board is not None and self._board.tracer is not None:
            self._trace(frames, self._board.tracer)
        return frames

    def reset(self) -> None:
        """Drop the incomplete frame, which counts as lost."""
        self.framer.reset()
        self._note()

    def end(self) -> None:
        """Note that the port is closed."""
        self.framer.user = None
        self.reset()

    def _trace(self, frames: Sequence[Frame], tracer: Tracer) -> None:
        for frame in frames:
            tracer.record(SerialFrame(frame.received_ns, self._port, frame.data))

    def _note(self) -> None:
        framer = self.framer
        if framer.lost != self._lost:
            self._count_lost(framer.lost - self._lost)
            self._lost = framer.lost
        if framer.check_error is not None:
            error, framer.check_error = framer.check_error, None
            self._failed("exception in the framing's check", error)


def _checked(made: Iterable[Frame]) -> Sequence[Frame]:
    """Return the frames of one read. Raises `TypeError` or `ValueError` if the framer made something else."""
    frames = made if type(made) is list else list(itertools.islice(made, MOST_FRAMES + 1))
    if len(frames) > MOST_FRAMES:
        raise ValueError(f"the framing made more than {MOST_FRAMES} frames of one read")
    for frame in frames:
        if type(frame) is not Frame and not isinstance(frame, Frame):
            raise TypeError(f"a framing makes frames (serial.Frame), not {short_name(frame)}")
    return frames
