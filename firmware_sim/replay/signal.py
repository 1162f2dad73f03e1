"""The signal that ended a recorded program, for the program that is replayed.

A real program goes on for a moment after a signal: the loop wakes, and each task is cancelled in its turn. A PWM may
have an edge meanwhile. In virtual time the program reacts at once, so it must get the signal later, after all that the
recorded one did by itself; and before all that the recorded one did because of the signal. The replay finds out which
outputs these are: as long as the program makes the next recorded output by itself, the signal waits.
"""

from __future__ import annotations

from firmware_sim.replay.inputs import Input, Inputs
from firmware_sim.replay.outputs import Outputs
from firmware_sim.replay.script import Step

REACTION_NS = 100_000_000
"""The time after a signal in which a real program may do something that is not its reaction."""
LATENESS_NS = 10_000_000
"""How much later than recorded an output may be that the program makes by itself."""


class Signal:
    """A signal, given at its time in a recording of exact times, and else after the outputs that do not depend on it.

    Parameters:
        signal: the signal as an input at its recorded time.
    """

    def __init__(self, signal: Input, inputs: Inputs, outputs: Outputs) -> None:
        self._signal, self._inputs, self._outputs = signal, inputs, outputs
        self._awaited: Step | None = None
        inputs.add(signal._replace(happen=self._happen))

    def _happen(self) -> None:
        """Give the signal, or wait for the next output. The lock is held."""
        following = self._outputs.first_missing() if self._outputs.tolerance_ns is None else None
        if following is None or following is self._awaited or following.when_ns > self._signal.when_ns + REACTION_NS:
            self._signal.happen()
        else:
            self._awaited = following
            later_ns = max(following.when_ns, self._signal.when_ns) + LATENESS_NS
            self._inputs.add(self._signal._replace(when_ns=later_ns, happen=self._happen))
