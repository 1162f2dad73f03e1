"""An ADS1015: Texas Instruments' 12-bit ADC, an ADS1115 with fewer bits and more conversions a second.

Source: TI SBAS473E.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from firmware_sim.devices.ads1115 import Ads1115


@dataclass(eq=False)
class Ads1015(Ads1115):
    """An ADS1015 ADC with four inputs, 12 bits and a comparator."""

    rates: ClassVar[Sequence[int]] = (128, 250, 490, 920, 1600, 2400, 3300, 3300)
    step: ClassVar[int] = 16
