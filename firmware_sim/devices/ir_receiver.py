"""An infrared receiver (VS1838B, TSOP38238) and a remote control that sends NEC codes.

The receiver's output is low while it sees 38 kHz. A frame is 9 ms of light, 4.5 ms of dark, then 32 bits with the
lowest first: 562.5 µs of light, and 562.5 or 1687.5 µs of dark. A key that is held repeats 9 ms, 2.25 ms, 562.5 µs
every 110 ms (SB-Projects, "NEC protocol"; Vishay TSOP382).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.pins import Line
from firmware_sim.timeline import Timeline

_BURST = 562_500
_REPEAT_NS = 110_000_000


@dataclass
class IrReceiver(Device):
    """An infrared receiver, with a remote control in front of it.

    Parameters:
        line: the line of its output.

    Attributes:
        sent: frames and repetitions that the remote control has sent.
    """

    line: int
    sent: int = field(default=0, init=False)

    wiring = "OUT to the line, VS to 3.3 V, GND to GND"
    example = "async with hwloop.gpio.watch(17, edges='both') as receiver: ..."

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        self._line: Line = board.use_line(self.line, f"the infrared receiver on line {self.line}")
        self._line.drive(1)
        self._free_ns = 0

    def send(self, address: int, command: int, repeats: int = 0) -> None:
        """Press a key of the remote control: a frame, and some repetitions.

        An address of more than eight bits is sent in the extended format, without its complement. Raises ValueError
        for an address of more than 16 bits, or a command of more than eight.
        """
        if not (0 <= address <= 0xFFFF and 0 <= command <= 0xFF):
            raise ValueError(f"an address has 16 bits and a command 8, not {address:#x} and {command:#x}")
        if address <= 0xFF:
            address |= (address ^ 0xFF) << 8
        frame = address | command << 16 | (command ^ 0xFF) << 24
        bits = ((_BURST, _BURST * (3 if frame >> place & 1 else 1)) for place in range(32))
        with self._timeline.lock:
            start_ns = max(self._timeline.moment_ns(), self._free_ns)
            self._flash(start_ns, [(16 * _BURST, 8 * _BURST), *bits, (_BURST, 0)])
            for repeat in range(1, repeats + 1):
                self._flash(start_ns + repeat * _REPEAT_NS, [(16 * _BURST, 4 * _BURST), (_BURST, 0)])
            self._free_ns = start_ns + (repeats + 1) * _REPEAT_NS
            self.sent += 1 + repeats

    def _flash(self, when_ns: int, pulses: Iterable[tuple[int, int]]) -> None:
        for light, dark in pulses:
            self._timeline.at(when_ns, lambda: self._line.drive(0))
            self._timeline.at(when_ns + light, lambda: self._line.drive(1))
            when_ns += light + dark
