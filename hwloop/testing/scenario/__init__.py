"""Scenarios: what happens on a simulated board, and what a program should do.

A scenario is a timeline of steps, in a TOML file or in Python:

    from hwloop.testing.scenario import Expect, Press, Scenario, play

    door = Scenario([Press("door", at=1.0), Expect("lamp.lit", within=0.1)])
    await play(board, door)

`hwloop sim` plays scenarios with a program, `play` in a test. docs/scenarios.md lists all kinds of steps.
"""

from __future__ import annotations

from hwloop.testing.scenario.control_steps import AnyOrder, Repeat, Stop, Wait
from hwloop.testing.scenario.errors import ScenarioError, ScenarioFailure
from hwloop.testing.scenario.event_expectations import ExpectOutput, ExpectQuiet, ExpectTransfer
from hwloop.testing.scenario.fault_steps import EndFault, Fault
from hwloop.testing.scenario.part_steps import Call, Click, Press, Pulses, Release, Set, Turn
from hwloop.testing.scenario.playing import play
from hwloop.testing.scenario.reading import load, parse
from hwloop.testing.scenario.replay_steps import Replay
from hwloop.testing.scenario.result import Played, Result
from hwloop.testing.scenario.scenario import Scenario
from hwloop.testing.scenario.serial_steps import ExpectSent, Send
from hwloop.testing.scenario.step import Step
from hwloop.testing.scenario.value_expectations import Expect, ExpectEdges
from hwloop.testing.scenario.value_steps import Follow, Ramp, Sine

__all__ = [
    "AnyOrder",
    "Call",
    "Click",
    "EndFault",
    "Expect",
    "ExpectEdges",
    "ExpectOutput",
    "ExpectQuiet",
    "ExpectSent",
    "ExpectTransfer",
    "Fault",
    "Follow",
    "Played",
    "Press",
    "Pulses",
    "Ramp",
    "Release",
    "Repeat",
    "Replay",
    "Result",
    "Scenario",
    "ScenarioError",
    "ScenarioFailure",
    "Send",
    "Set",
    "Sine",
    "Step",
    "Stop",
    "Turn",
    "Wait",
    "load",
    "parse",
    "play",
]


def __dir__() -> list[str]:
    return __all__
