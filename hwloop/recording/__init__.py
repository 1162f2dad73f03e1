"""Recordings of a program's hardware: every edge, byte and transfer, with its time, in a file or a ring.

`hwloop record` writes a file, `hwloop run --recorder` and `hwloop.run(..., recorder=)` record into a ring, `hwloop log`
prints either, and `hwloop replay` runs the program again with the inputs of a recording. `read` opens one in a program.
"""

from __future__ import annotations

from hwloop.recording.file import RecordingFile
from hwloop.recording.format import Ended, Event, Header, Lost, RecordingError, Signalled
from hwloop.recording.reader import Run, read
from hwloop.recording.recorder import Recorder
from hwloop.recording.ring import Ring, open_ring

__all__ = [
    "Ended",
    "Event",
    "Header",
    "Lost",
    "Recorder",
    "RecordingError",
    "RecordingFile",
    "Ring",
    "Run",
    "Signalled",
    "open_ring",
    "read",
]
