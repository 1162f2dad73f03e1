"""Lines as a circuit: their drivers and resistors, and the level that results.

A GPIO line is a wire, not a variable. Several things act on it at once: the chip's own output stage, its weak pull
resistor, a part's contact or output, a part's resistor, and everything that acts on a line joined to it by a wire.
Lines that are joined form one net, and a net has one level, found by these rules, in this order:

1. Strong drivers (a push-pull output, an open-drain output that is low, an open-source output that is high, a part
   that drives) set the level. Where two disagree it is a short circuit: low wins, and `firmware_sim.strain` reports it.
2. Resistors of parts pull; where they disagree they cancel out.
3. The chip's own weak resistors pull (about 50 kΩ against the 10 kΩ of a part); where they disagree they cancel out.
   One that a program has set wins over one that is as it was at reset: 50 kΩ against 50 kΩ would be undefined, and a
   program that sets a pull-up on a wired line means it.
4. Nothing acts: the net floats and keeps the level it had, as the capacitance of a CMOS input does.

A line that a program has released behaves as on Raspberry Pi OS: an output goes on driving (its kernel's
`persist_gpio_outputs`), and the pull resistor stays as it was set.
"""

from __future__ import annotations

import collections
import logging
from collections.abc import Callable, Sequence
from typing import Literal

from firmware_sim.line_faults import Contact, Hold
from firmware_sim.strain import Strain
from firmware_sim.surviving_lines import SurvivingLines
from firmware_sim.timeline import Referable, Timeline
from hwloop.board import Drive, Pull
from hwloop.core.clock import Disturbed
from hwloop.core.naming import short_name
from hwloop.trace_events import LineChange

logger: logging.Logger = logging.getLogger("firmware_sim")

Observer = Callable[[int, int], object]
"""Called as `observer(level, when_ns)` (CLOCK_MONOTONIC) after each change, with the timeline's lock held."""

Use = Literal["requested", "reconfigured", "released"]
"""The changes of a line's use."""

_RELEASED: dict[Drive, int | None] = {"push-pull": None, "open-drain": 1, "open-source": 0}
"""The level at which an output stage drives nothing."""
_PULLED_UP_AT_RESET = range(9)  # BCM2835 ARM peripherals, table 6-31: GPIO 0 to 8 are pulled up, 9 to 27 down


class Net:
    """Lines joined by wires: one level for all of them."""

    __slots__ = ("level", "lines", "shorted")

    def __init__(self, lines: list[Line], level: int) -> None:
        self.lines: list[Line] = lines
        self.level: int = level
        self.shorted: bool = False


class Line(Referable):
    """One line of a chip.

    Parts use `drive`, `pull` and `observe`; `claim`, `set_output` and `release` are the chip's own side, for the code
    that stands for the kernel. Tests and the demo compare the counters with the edges that a program received.

    Attributes:
        number: its offset on the chip, the BCM number.
        name: the kernel's name for it: "GPIO17".
        level_at_reset: its level while nothing but the chip's pull resistor acts on it, as at reset.
        consumer, used: the name of its user, or None while it is free; whether it has a part, or has ever had a user.
        flags: the flags of the claim, as lgpio numbers them.
        active_low: whether its user reads and writes it inverted.
        bias: the chip's own pull resistor.
        output: the level of the chip's output stage; None for an input.
        part: the name of the part on it, for traces.
        holds: the levels that faults force on it.
        contacts: the bouncing contacts of its part, by faults; the last one that bounces counts.
        changes: how often its level changed.
        reports, reports_lost: edge reports for a reader's FIFO that were written to it, and that found it full.
        fast_pulses: period and high time (ns) of pulses that are too fast to happen one by one; None without.
    """

    def __init__(self, chip: Chip, number: int) -> None:
        self._chip = chip
        self.number = number
        self.name: str = f"GPIO{number}"
        self.consumer: str | None = None
        self.used: bool = False
        self.changes: int = 0
        self.reports = self.reports_lost = 0
        self.level_at_reset: int = 1 if number in _PULLED_UP_AT_RESET else 0
        self.bias: Pull = "up" if self.level_at_reset else "down"
        self._bias_set = False  # by a program, not at reset
        self.output: int | None = None
        self.part: str = ""
        self.fast_pulses: tuple[int, int] | None = None
        self.flags: int = 0
        self.active_low: bool = False
        self._drive: Drive = "push-pull"
        self._driven: int | None = None
        self._pulled: Pull = "none"
        self._observers: list[Observer] = []
        self._loads: dict[int, float] = {}  # mA by the level at which they flow
        self.holds: list[Hold] = []
        self.contacts: list[Contact] = []
        self.net: Net = Net([self], self.level_at_reset)

    @property
    def level(self) -> int:
        """The electrical level now: 0 or 1."""
        with self._chip.timeline.lock:
            self._chip.timeline.catch_up()
            return self.net.level

    def drive(self, level: int | None) -> None:
        """Drive the line to `level` as a part, or release it with None."""
        if level not in (0, 1, None):
            raise ValueError(f"line {self.number}: a part drives 0, 1 or None, not {level!r}")
        with self._chip.timeline.lock:
            self._chip.timeline.catch_up()
            before, self._driven = self._driven, level
            if before != level:
                for contact in tuple(self.contacts):
                    contact.moved(before, level)
            self._chip.resolve(self.net, self.part or "outside")

    def pull(self, direction: Pull) -> None:
        """Pull the line up or down by a part's resistor; "none" removes the resistor."""
        with self._chip.timeline.lock:
            self._chip.timeline.catch_up()
            self._pulled = direction
            self._chip.resolve(self.net, self.part or "outside")

    def hold(self, by: str) -> Hold:
        """Return a new `Hold` of the line, which does nothing yet. `by` names the fault."""
        return Hold(self.holds, lambda: self._chip.resolve(self.net, by))

    def contact(self, by: str, moved: Callable[[int | None, int | None], object]) -> Contact:
        """Return a new `Contact` of the line's part. `moved(before, now)` is called when the part drives another level,
        just before the line has it."""
        return Contact(self.contacts, moved, lambda: self._chip.resolve(self.net, by))

    def load(self, milliamps: float, level: int = 1) -> None:
        """Draw a current from the chip's output, as a part, while that drives `level`; 0 ends it.

        More than a pin gives is logged, with the name of the part.
        """
        with self._chip.timeline.lock:
            self._loads[level] = milliamps
            self._chip.strain.check(self)

    def current(self) -> float:
        """Return the current that the chip's output gives or takes now, in mA. The timeline's lock is held."""
        output = self.chip_output
        return 0.0 if output is None else self._loads.get(output, 0.0)

    def observe(self, observer: Observer) -> None:
        """Call `observer` after each change of level, in the order in which observers were added."""
        with self._chip.timeline.lock:
            self._observers = [*self._observers, observer]

    def forget(self, observer: Observer) -> None:
        """Remove an observer. Harmless if it is not there."""
        with self._chip.timeline.lock:
            self._observers = [other for other in self._observers if other != observer]

    def claim(
        self,
        consumer: str,
        *,
        flags: int = 0,
        output: int | None = None,
        drive: Drive = "push-pull",
        bias: Pull | None = None,
        active_low: bool = False,
    ) -> None:
        """Claim the line as an input, or as an output at this electrical level. Bias None leaves it as it is."""
        with self._chip.timeline.lock:
            self.find_kept()
            use: Use = "requested" if self.consumer is None else "reconfigured"
            self.consumer, self.flags, self.used = consumer, flags, True
            self.output, self._drive, self.active_low = output, drive, active_low
            if bias is not None:
                self.bias, self._bias_set = bias, True
            self._keep()
            self._chip.resolve(self.net, "program")
            if self._loads:
                self._chip.strain.check(self)
            self._chip.note_use(self, use)

    def release(self) -> None:
        """Free the line, which goes on driving and pulling as before."""
        with self._chip.timeline.lock:
            claimed, self.consumer, self.flags, self.active_low = self.consumer is not None, None, 0, False
            if claimed:
                self._chip.note_use(self, "released")

    def set_output(self, level: int) -> None:
        """Change the electrical level of the chip's output stage."""
        with self._chip.timeline.lock:
            self.output = level
            self._keep()
            self._chip.resolve(self.net, "program")
            if self._loads:
                self._chip.strain.check(self)

    def find_kept(self) -> None:
        """Drive the level that another process has left, where lines survive their process. The lock is held."""
        if self._chip.surviving is not None and self.consumer is None:
            self.output, self._drive = self._chip.surviving.found(self.number)
            self._chip.resolve(self.net, "another process")

    def _keep(self) -> None:
        if self._chip.surviving is not None:
            self._chip.surviving.keep(self.number, self.output, self._drive)

    def drivers(self) -> list[int]:
        """Return the levels of this line's strong drivers."""
        driven = self._driven
        for contact in self.contacts:
            if contact.bouncing:
                driven = contact.level
        levels = [] if driven is None else [driven]
        if self.output is not None and (output := self.chip_output) is not None:
            levels.append(output)
        return levels

    @property
    def chip_output(self) -> int | None:
        """The level that the chip's output stage drives now; None if it drives none."""
        return None if self.output == _RELEASED[self._drive] else self.output

    def pulls(self) -> tuple[Pull, Pull, Pull]:
        """Return this line's pulls, the strongest first: a part's, the chip's own as set, and as at reset."""
        return (self._pulled, self.bias, "none") if self._bias_set else (self._pulled, "none", self.bias)

    def notify(self, level: int, when_ns: int) -> None:
        """Count a change of level and call the observers."""
        self.changes += 1
        for observer in self._observers:
            try:
                observer(level, when_ns)
            except (SystemExit, KeyboardInterrupt, Disturbed):
                raise
            except BaseException:
                # A fault in one simulated device must not stop the others.
                logger.exception("simulated device failed in %s", short_name(observer))

    def __repr__(self) -> str:
        return f"<Line {self.number} level={self.net.level} consumer={self.consumer}>"


class Chip(Referable):
    """A GPIO chip: `lines` lines, numbered from 0.

    Attributes:
        timeline: the board's time and its lock.
        label: the name of its driver, as the kernel would give it.
        strain: the short circuits and currents that would damage it.
        surviving: the levels that its lines drive, in a file shared with other processes; None without such a file.
        at_removal: callables for the moment when it vanishes, called with the timeline's lock held.
        at_use: callables for each change of a line's use, called with the line and the change, with the lock held.
    """

    def __init__(self, timeline: Timeline, *, label: str, lines: int, surviving: SurvivingLines | None = None) -> None:
        self.timeline = timeline
        self.surviving = surviving
        self.label = label
        self.strain: Strain = Strain()
        self.at_removal: list[Callable[[], object]] = []
        self.at_use: list[Callable[[Line, Use], object]] = []
        self._removed_by: set[object] = set()
        self._wires: list[tuple[int, int]] = []
        self._lines = tuple(Line(self, number) for number in range(lines))
        self._pending: collections.deque[tuple[Line, int, int]] = collections.deque()
        self._notifying = False
        self._last_ns = self._planned_ns = 0
        with timeline.lock:
            for line in self._lines:
                line.find_kept()

    def __len__(self) -> int:
        return len(self._lines)

    def line(self, number: int) -> Line:
        """Return line `number`. Raises ValueError if the chip has none."""
        if not 0 <= number < len(self._lines):
            raise ValueError(f"no line {number!r} on chip {self.label}: lines are 0 to {len(self._lines) - 1}")
        return self._lines[number]

    @property
    def short_circuits(self) -> int:
        """How often two strong drivers began to disagree."""
        return self.strain.short_circuits

    @property
    def present(self) -> bool:
        """Whether the kernel knows it."""
        return not self._removed_by

    def remove(self, by: object = None) -> None:
        """Let the chip vanish, as when its driver is unbound: its lines are free, and keep the levels that they drive.

        Each `remove` needs its `restore`, with the same `by`.
        """
        with self.timeline.lock:
            present = self.present
            self._removed_by.add(by)
            if present:
                for callback in tuple(self.at_removal):
                    callback()

    def restore(self, by: object = None) -> None:
        """Let the chip come back. Whatever had it open must open it again."""
        with self.timeline.lock:
            self._removed_by.discard(by)

    def note_use(self, line: Line, use: Use) -> None:
        """Pass on that a line's use has changed. The lock is held."""
        for callback in tuple(self.at_use):
            callback(line, use)

    def wire(self, a: int, b: int) -> None:
        """Join two lines: everything that acts on one acts on both."""
        with self.timeline.lock:
            joined = self.line(a).net is self.line(b).net
            self._wires.append((a, b))
            if not joined:
                self._rejoin([*self.line(a).net.lines, *self.line(b).net.lines])

    def cut(self, a: int, b: int) -> None:
        """Remove a wire between two lines. They stay joined if another wire joins them. Harmless if there is none."""
        with self.timeline.lock:
            if (a, b) in self._wires:
                self._wires.remove((a, b))
                self._rejoin(self.line(a).net.lines)

    def _rejoin(self, lines: Sequence[Line]) -> None:
        """Make the nets of these lines again, by the wires between them."""
        before = {line: line.net.level for line in lines}
        nets = {line.number: Net([line], before[line]) for line in lines}
        for a, b in self._wires:
            if a in nets and (first := nets[a]) is not (second := nets[b]):
                first.lines += second.lines
                for line in second.lines:
                    nets[line.number] = first
        for net in dict.fromkeys(nets.values()):
            net.lines.sort(key=lambda line: line.number)
            for line in net.lines:
                line.net = net
        # A line changes now if its level before was another; a floating net takes the level of the first line.
        for net in dict.fromkeys(nets.values()):
            net.level = self._level(net)
            self._notify([line for line in net.lines if before[line] != net.level], net.level, "wire")

    def resolve(self, net: Net, by: str) -> None:
        """Find the level of `net` again and notify its lines if it changed. `by` caused it. The lock is held."""
        level = self._level(net)
        if level != net.level:
            net.level = level
            self._notify(net.lines, level, by)

    def _level(self, net: Net) -> int:
        driven = [level for line in net.lines for level in line.drivers()]
        held = [hold.level for line in net.lines for hold in line.holds if hold.level is not None]
        driven += held
        shorted = 0 in driven and 1 in driven
        if shorted and not net.shorted:
            self.strain.short_circuit(net.lines)
        net.shorted = shorted
        if driven:
            return min(held or driven)
        for strength in zip(*[line.pulls() for line in net.lines], strict=True):
            pulls = {pull for pull in strength if pull != "none"}
            if len(pulls) == 1:
                return 1 if pulls == {"up"} else 0
        return net.level

    def _notify(self, lines: Sequence[Line], level: int, by: str) -> None:
        """Notify `lines` of a new level. If an observer changes a line again, its notification comes after this one."""
        # The time for which it was planned, but later than the last notification unless both were planned for one
        # moment; otherwise the order of two lines' edges would be lost.
        when_ns = moment_ns = self.timeline.moment_ns()
        if when_ns <= self._last_ns:
            when_ns = self._last_ns if moment_ns == self._planned_ns else self._last_ns + 1
        self._last_ns, self._planned_ns = when_ns, moment_ns
        if (tracer := self.timeline.tracer) is not None:
            for line in lines:
                tracer.record(LineChange(when_ns, line.number, level, by))
        self._pending += [(line, level, when_ns) for line in lines]
        if self._notifying:
            return
        self._notifying = True
        try:
            while self._pending:
                line, new_level, when_ns = self._pending.popleft()
                line.notify(new_level, when_ns)
        finally:
            self._notifying = False
