"""A board that replays a recording: it does again what its parts did, and compares what the program does.

It has no parts. Its lines, ports and buses are driven from the recorded events, and the program's own outputs are
compared with the recorded ones, wire by wire. `hwloop replay` runs programs on it.
"""

from __future__ import annotations

from firmware_sim.replay.board import ReplayBoard
from firmware_sim.replay.inputs import Input
from firmware_sim.replay.outputs import Difference
from firmware_sim.replay.script import Script
from firmware_sim.replay.signal import Signal

__all__ = ["Difference", "Input", "ReplayBoard", "Script", "Signal"]
