"""Inputs of ADC parts by name, for parts with a voltage as their output."""

from __future__ import annotations

from typing import cast

from firmware_sim.analog import Adc
from firmware_sim.device import Connections
from firmware_sim.errors import WiringError


def adc_input(board: Connections, name: str, channel: int, user: str) -> Adc:
    """Return the ADC part of this name, for a part with a voltage as its output. Raises `WiringError`."""
    adc = board.names.get(name)
    inputs = getattr(adc, "inputs", None)
    if not isinstance(inputs, list):
        found = "is no ADC" if adc is not None else "does not exist"
        named = sorted(other for other, device in board.names.items() if isinstance(getattr(device, "inputs", 0), list))
        raise WiringError(f"{user}: the part {name!r} {found}; {_choice(named)}")
    if not 0 <= channel < len(inputs):
        raise WiringError(f"{user}: {name} has the inputs 0 to {len(inputs) - 1}")
    return cast(Adc, adc)


def _choice(names: list[str]) -> str:
    if names:
        return f"name one of {', '.join(names)}"
    return 'add one, such as type = "ads1115" with name = "adc"'
