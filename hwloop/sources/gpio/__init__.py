"""GPIO lines: edges to wait for, and outputs that end in a safe state.

async with gpio.watch(17, pull="up", active_low=True, debounce=0.005) as button:
    async for edge in button:
        print("pressed" if edge.value else "released", edge.timestamp_ns)

async with gpio.output(27, initial=0, safe=0) as relay:
    relay.set(1)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hwloop.board import Edge, EdgeKind, LineName
from hwloop.core.lazy import lazy_names
from hwloop.lines import Pull
from hwloop.sources.gpio.edges import Watch, watch
from hwloop.sources.gpio.open_outputs import make_safe
from hwloop.sources.gpio.output_lines import Output, output, outputs

__all__ = [
    "Click",
    "Clicks",
    "Edge",
    "EdgeKind",
    "Encoder",
    "Frequency",
    "LineName",
    "Output",
    "Pull",
    "Pulse",
    "PulseWidth",
    "Watch",
    "clicks",
    "encoder",
    "frequency",
    "make_safe",
    "output",
    "outputs",
    "pulse_width",
    "watch",
]

if TYPE_CHECKING:
    from hwloop.sources.gpio.button_clicks import Click, Clicks, clicks
    from hwloop.sources.gpio.measurements import Encoder, Frequency, Pulse, PulseWidth, encoder, frequency, pulse_width
else:
    __getattr__, __dir__ = lazy_names(
        __name__,
        __all__,
        {
            "hwloop.sources.gpio.button_clicks": ("Click", "Clicks", "clicks"),
            "hwloop.sources.gpio.measurements": (
                "Encoder",
                "Frequency",
                "Pulse",
                "PulseWidth",
                "encoder",
                "frequency",
                "pulse_width",
            ),
        },
    )
