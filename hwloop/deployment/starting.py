"""Starting a service: whether it became ready and stayed so, and if not, why, with the last lines of its log."""

from __future__ import annotations

import time
from collections.abc import Callable

from hwloop.deployment.quoting import unit_name
from hwloop.deployment.systemctl import State, Systemctl

SETTLING = 2.0
"""Seconds that a service must go on after it is ready: one that fails in its first moments was never good."""
_LOOKS = 60
"""How often, every half a second, the starter looks whether a process that ends has ended."""
_SHOWN = 12
"""The last lines of the log that a failure shows."""


class Starter:
    """Starts services.

    Parameters:
        systemctl: the machine's systemd.
        say: reports a step to the user, as one line.
        sleep: waits for some seconds.
    """

    def __init__(
        self,
        systemctl: Systemctl,
        say: Callable[[str], object],
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._systemctl = systemctl
        self._say = say
        self._sleep = sleep

    def start(self, name: str) -> str:
        """Start a service anew, and return why it did not become ready, with its last lines; "" if it did."""
        unit = unit_name(name)
        begun, clock = time.time(), time.monotonic()
        is_ready = self._systemctl.restart(unit)
        state = self._systemctl.state(unit)
        if is_ready and _is_up(state):
            taken, restarts = time.monotonic() - clock, state.restarts
            self._sleep(SETTLING)
            state = self._systemctl.state(unit)
            if _is_up(state) and state.restarts == restarts:
                self._say(f"{name}: ready after {taken:.1f} s")
                return ""
        if is_ready and state.active == "inactive" and state.result == "success":
            self._say(f"{name}: has run to its end")
            return ""
        state = self._ended(unit, state)
        lines = self._systemctl.log(unit, _SHOWN, begun)
        shown = "".join(f"\n    {line}" for line in lines) or " (its log is empty)"
        end = "ended soon after it was ready" if _is_up(state) else describe_end(state)
        return f"{end}; its last lines:{shown}"

    def _ended(self, unit: str, state: State) -> State:
        """Return the state once the process has ended: it may have reported that it ends, and still do so."""
        for _ in range(_LOOKS):
            if state.active != "deactivating":
                break
            self._sleep(0.5)
            state = self._systemctl.state(unit)
        return state


def _is_up(state: State) -> bool:
    return state.active in ("active", "reloading")


def describe_end(state: State) -> str:
    """Return how a service that is not ready has ended, in words."""
    if state.result == "timeout":
        return "did not become ready in time"
    if state.result == "watchdog":
        return "gave no sign of life, and its watchdog ended it"
    if state.code == "2" or state.result in ("signal", "core-dump"):
        return f"was killed by signal {state.status}"
    if state.status == 203:
        return "could not be executed: its Python or its hwloop is missing, or not visible to the service"
    if state.status in (216, 217):
        return "could not be started: its user or one of its groups is missing"
    if state.status:
        return f"ended with status {state.status}"
    return f"is {state.active}" + (f" ({state.result})" if state.result not in ("", "success") else "")
