"""All kinds of steps, by their verbs."""

from __future__ import annotations

from hwloop.testing.scenario.control_steps import AnyOrder, Repeat, Stop, Wait
from hwloop.testing.scenario.event_expectations import ExpectOutput, ExpectQuiet, ExpectTransfer
from hwloop.testing.scenario.fault_steps import EndFault, Fault
from hwloop.testing.scenario.part_steps import Call, Click, Press, Pulses, Release, Set, Turn
from hwloop.testing.scenario.replay_steps import Replay
from hwloop.testing.scenario.serial_steps import ExpectSent, Send
from hwloop.testing.scenario.step import Step
from hwloop.testing.scenario.value_expectations import Expect, ExpectEdges
from hwloop.testing.scenario.value_steps import Follow, Ramp, Sine

_KINDS: tuple[type[Step], ...] = (
    *(Press, Release, Click, Set, Ramp, Sine, Follow, Pulses, Turn, Send, Replay, Call, Fault, EndFault),
    *(Expect, ExpectEdges, ExpectOutput, ExpectSent, ExpectTransfer, ExpectQuiet, AnyOrder),
    *(Wait, Repeat, Stop),
)

STEPS: dict[str, type[Step]] = {kind.verb: kind for kind in _KINDS}
"""The kinds of steps by their verbs, in the order of the documentation."""
