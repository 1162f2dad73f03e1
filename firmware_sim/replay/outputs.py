"""The comparison of a program's outputs with the recorded ones.

Each line, each port and each device of a bus is a wire. On a wire the order is exact: the next output must be the next
one that was recorded. Between wires it is not, because a real computer does not do two things in the same order each
time. The first difference on a wire is kept, and the further ones are counted: after it, the rest of a line or a port
can't be compared with anything.

A recording of real time ends at a moment that no replay hits exactly. There the program may be ahead by an output or
two, so in the last second those that were not recorded are no differences. Nor are they within a second of the signal
that ended the program. Where a recording of exact times is cut off, those of the last moment may be missing in it, and
a transfer that was under way then is.
"""

from __future__ import annotations

import collections
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from firmware_sim.i2c_dev import LENGTH_FIRST, Message
from firmware_sim.replay.script import Script, Step
from firmware_sim.trace.wording import data_text, describe
from hwloop.trace_events import I2cTransfer, LineChange, SerialData, SpiTransfer, TraceEvent

END_NS = 1_000_000_000
"""The time before the end of a recording of real time in which the program may do what it did after the end. No
transfer takes longer."""
_SHOWN = 24
"""Bytes of serial data that a difference shows."""
_LOOK_AHEAD = 100
"""Recorded transfers among which the one is sought that the program makes, if it leaves some out."""


@dataclass
class Difference:
    """A difference between the recorded outputs of a wire and the program's."""

    where: str
    """The wire: "line 27", "/dev/ttyAMA0", "i2c 1 0x76"."""
    number: int | None
    """The number of the recorded event; None if nothing was recorded that corresponds."""
    when_ns: int
    """When the recorded event happened, by the recording's clock, or else the program's output."""
    recorded: str
    """The recorded output in words; empty if there was none."""
    happened: str
    """The program's output in words; empty if there was none."""
    further: int = 0
    """How many more there were on this wire."""


class Outputs:
    """The recorded outputs that the program has yet to make.

    Parameters:
        script: the recording.
        offset_ns: the time that passes between the recording's clock and the board's.
        tolerance_ns: the difference in time that is accepted; None does not compare times.
        compares: whether outputs are compared at all; otherwise transfers are only answered.
        is_driven: returns whether the program drives a line. A change of any other by a pull is no output.

    Attributes:
        matched: how many events of the recording the program has made again.
        closed: whether further outputs are left out of the comparison.
        progressed: called for each output that was recorded, with its place and by how much it was later (ns).
    """

    def __init__(
        self,
        script: Script,
        *,
        offset_ns: int,
        tolerance_ns: int | None,
        is_driven: Callable[[int], bool],
        compares: bool = True,
    ) -> None:
        self.matched: int = 0
        self.closed: bool = False
        self.progressed: Callable[[int, int], object] = lambda place, lag_ns: None
        self._compares = compares
        self._script = script
        self._unknown = script.unknown
        self._lag_ns = 0  # how much later than recorded the last output was
        self._offset_ns = offset_ns
        self.tolerance_ns: int | None = tolerance_ns
        self._is_driven = is_driven
        self._differences: dict[str, Difference] = {}
        self._wires = collections.defaultdict[str, collections.deque[Step]](collections.deque)
        self._sent = collections.Counter[str]()
        for step in script.outputs:
            self._wires[wire_of(step.event)].append(step)

    @property
    def differences(self) -> list[Difference]:
        """The first difference of each wire, in the order in which they were found."""
        return list(self._differences.values())

    def move(self, offset_ns: int) -> None:
        """Begin at another time than was planned."""
        self._offset_ns = offset_ns

    def first_missing(self) -> Step | None:
        """Return the first recorded output that the program has yet to make; None if there is none."""
        if not self._compares:
            return None
        first = [steps[0] for where, steps in self._wires.items() if steps and where not in self._differences]
        return min(first, default=None, key=lambda step: step.place)

    def record(self, event: TraceEvent) -> None:
        """Compare an event of the replaying board: it is the board's tracer. The board's lock is held."""
        if self.closed or not self._compares:
            return
        if isinstance(event, LineChange) and event.by == "program":
            self._line(event)
        elif isinstance(event, SerialData) and event.direction == "sent":
            self._serial(event)

    def _line(self, change: LineChange) -> None:
        where = wire_of(change)
        steps = self._wires[where]
        if not steps and not self._is_driven(change.line):
            return
        if change.line in self._unknown:
            self._unknown.remove(change.line)  # the level at which it was opened may have been the one that it had
            return
        if self._is_lost(where):
            return
        level = f"the program drove it to {change.level}"
        if not steps:
            if not self.is_over(where, change.when_ns):
                self._differ(where, None, change.when_ns, level)
            return
        step = steps[0]
        assert isinstance(step.event, LineChange)
        if step.event.level != change.level:
            self._differ(where, step, change.when_ns, level)
        elif not self._is_late(where, step, change.when_ns):
            self._match(steps, change.when_ns)

    def _serial(self, piece: SerialData) -> None:
        where, data = piece.port, piece.data
        if self._is_lost(where):
            return
        steps = self._wires[where]
        while data:
            if not steps:
                if not self.is_over(where, piece.when_ns):
                    self._differ(where, None, piece.when_ns, f"the program sent {_shortened(data)}")
                return
            step = steps[0]
            assert isinstance(step.event, SerialData)
            expected = step.event.data[self._sent[where] :]
            common = min(len(expected), len(data))
            if expected[:common] != data[:common]:
                self._differ(where, step, piece.when_ns, f"the program sent {_shortened(data)}")
                return
            self._sent[where] += common
            data = data[common:]
            if common == len(expected):
                if self._is_late(where, step, piece.when_ns):
                    return
                self._sent[where] = 0
                self._match(steps, piece.when_ns)

    def is_over(self, where: str, when_ns: int, *, is_transfer: bool = False) -> bool:
        """Return whether all recorded outputs of a wire were made, and the recording need not have another one.

        `when_ns` is its time, or its beginning if it is a transfer.
        """
        script = self._script
        recorded_ns = when_ns - self._offset_ns - self._lag_ns
        if self._wires[where]:
            return False
        if self.tolerance_ns is not None:
            early_ns = END_NS if is_transfer else self.tolerance_ns
            return script.is_cut and recorded_ns >= script.end_ns - early_ns
        is_stopping = script.signal_ns is not None and abs(recorded_ns - script.signal_ns) < END_NS
        return is_stopping or script.end_ns - recorded_ns < END_NS

    def find_transfer(self, bus: int, messages: Sequence[Message]) -> Step | None:
        """Return the recorded transfer that the program is about to make; None if there is none. The lock is held."""
        steps = self._wires[f"i2c {bus} 0x{messages[0].address:02x}"]
        for step in itertools.islice(steps, _LOOK_AHEAD):
            assert isinstance(step.event, I2cTransfer)
            if _is_same(step.event, messages):
                return step
        return None

    def reject_transfer(self, bus: int, messages: Sequence[Message], when_ns: int) -> None:
        """Report a transfer that was not recorded. The lock is held."""
        where = f"i2c {bus} 0x{messages[0].address:02x}"
        steps = self._wires[where]
        self._differ(where, steps[0] if steps else None, when_ns, f"the program made {_requested(bus, messages)}")

    def find_exchange(self, bus: int, select: int, sent: bytes) -> Step | None:
        """Return the recorded SPI transfer that the program makes next; None if there is none. The lock is held."""
        for step in itertools.islice(self._wires[f"spi {bus}.{select}"], _LOOK_AHEAD):
            if isinstance(step.event, SpiTransfer) and step.event.sent == sent:
                return step
        return None

    def reject_exchange(self, bus: int, select: int, sent: bytes, when_ns: int) -> None:
        """Report an SPI transfer that was not recorded. The lock is held."""
        where = f"spi {bus}.{select}"
        steps = self._wires[where]
        self._differ(where, steps[0] if steps else None, when_ns, f"the program made {where} w {sent.hex(' ')}")

    def complete_transfer(self, step: Step, began_ns: int, when_ns: int) -> None:
        """Note that the program has made a transfer, which `find_transfer` returned. The lock is held."""
        transfer = step.event
        where = wire_of(transfer)
        steps = self._wires[where]
        while steps[0] is not step:
            self._differ(where, steps.popleft(), began_ns, "the program did not do it")
        self._is_late(where, step._replace(when_ns=transfer.when_ns), began_ns)
        self._match(steps, when_ns)

    def finish(self) -> None:
        """Report the outputs that the program has not made by the end, and compare nothing more."""
        if not self.closed and self._compares:
            for where, steps in self._wires.items():
                if steps and where not in self._differences:
                    step = steps[0]
                    self._differ(where, step, step.when_ns + self._offset_ns, "the program did not do it")
                    self._differences[where].further += len(steps) - 1
        self.closed = True

    def _match(self, steps: collections.deque[Step], when_ns: int) -> None:
        self.matched += 1
        step = steps.popleft()
        self._lag_ns = when_ns - step.when_ns - self._offset_ns
        self.progressed(step.place, self._lag_ns)

    def _is_lost(self, where: str) -> bool:
        """Return whether the wire has had a difference, and count another output on it."""
        found = self._differences.get(where)
        if found is not None:
            found.further += 1
        return found is not None

    def _is_late(self, where: str, step: Step, when_ns: int) -> bool:
        """Report an output at another time than the recorded one."""
        difference_ns = when_ns - step.when_ns - self._offset_ns
        if self.tolerance_ns is None or abs(difference_ns) <= self.tolerance_ns:
            return False
        how = "later" if difference_ns > 0 else "earlier"
        self._differ(where, step, when_ns, f"the program did it {abs(difference_ns) / 1e9:.6f} s {how}")
        return True

    def _differ(self, where: str, step: Step | None, when_ns: int, happened: str) -> None:
        found = self._differences.get(where)
        if self.closed or not self._compares:
            return
        if found is not None:
            found.further += 1
        elif step is None:
            self._differences[where] = Difference(where, None, when_ns - self._offset_ns, "", happened)
        else:
            recorded = _described(step.event)
            self._differences[where] = Difference(where, step.number, step.when_ns, recorded, happened)


def wire_of(event: LineChange | SerialData | I2cTransfer | SpiTransfer) -> str:
    """Return the name of the wire of an output."""
    if isinstance(event, LineChange):
        return f"line {event.line}"
    if isinstance(event, SerialData):
        return event.port
    if isinstance(event, SpiTransfer):
        return f"spi {event.device}"
    address = event.messages[0].address if event.messages else 0
    return f"i2c {event.bus} 0x{address:02x}"


def _is_same(transfer: I2cTransfer, messages: Sequence[Message]) -> bool:
    """Return whether messages are those of a recorded transfer. One that failed may lack the last messages."""
    recorded = transfer.messages
    if len(recorded) > len(messages) or (len(recorded) < len(messages) and not transfer.error):
        return False
    last = len(recorded) - 1
    for index, (one, message) in enumerate(zip(recorded, messages, strict=False)):
        if one.address != message.address or (one.direction == "received") != (message.reads is not None):
            return False
        failed = bool(transfer.error) and index == last
        if message.reads is None:
            if one.data != (message.data[: len(one.data)] if failed else message.data):
                return False
        elif not failed and message.reads not in (LENGTH_FIRST, len(one.data)):
            return False
    return True


def _requested(bus: int, messages: Sequence[Message]) -> str:
    """Return the messages of a transfer in words."""
    parts = [f"i2c {bus} 0x{messages[0].address:02x}"]
    for message in messages:
        if message.reads is None:
            parts.append(f"w {message.data.hex(' ')}".rstrip())
        else:
            parts.append("r" if message.reads == LENGTH_FIRST else f"r {message.reads} bytes")
    return " ".join(parts)


def _described(event: LineChange | SerialData | I2cTransfer | SpiTransfer) -> str:
    if isinstance(event, LineChange):
        return f"the program drove it to {event.level}"
    if isinstance(event, SerialData):
        return f"the program sent {_shortened(event.data)}"
    return f"the program made {describe(event)}"


def _shortened(data: bytes) -> str:
    return data_text(data[:_SHOWN]) + (f" and {len(data) - _SHOWN} bytes more" if len(data) > _SHOWN else "")
