"""An HC-SR04 ultrasonic ranging module.

A trigger pulse of at least 10 µs starts a measurement: eight cycles of 40 kHz, then the echo line is high for as long
as the sound takes there and back. Without an echo it stays high for 38 ms. A trigger while a measurement runs has no
effect (ElecFreaks, "Ultrasonic ranging module HC-SR04": "Ultrasonic sensor timing"; range 2 cm to 4 m).
"""

from __future__ import annotations

from dataclasses import dataclass, field

from firmware_sim.device import Connections, Device
from firmware_sim.limits import within
from firmware_sim.pins import Line
from firmware_sim.pulse_meter import PulseMeter
from firmware_sim.timeline import Timeline

NEAREST, FARTHEST = 0.02, 4.0
"""Metres."""
_LEAST_TRIGGER = 10e-6
_BURST = 450e-6
"""Seconds from the end of the trigger pulse to the rise of the echo line."""
_NO_ECHO = 0.038


@dataclass
class HcSr04(Device):
    """An HC-SR04 ultrasonic distance sensor.

    Parameters:
        trigger: the line that starts a measurement.
        echo: the line of the echo.
        distance: metres to the obstacle; beyond 4 m there is no echo. May be changed at any time.
        temperature: of the air, which decides the speed of sound.

    Attributes:
        measurements: measurements that were started.
        ignored: triggers without effect: too short, or during a measurement.
    """

    trigger: int
    echo: int
    distance: float = within(0, 100, "metres", default=1.0)
    temperature: float = within(-40, 80, "°C", default=20.0)
    measurements: int = field(default=0, init=False)
    ignored: int = field(default=0, init=False)

    fixed = "trigger, echo"
    wiring = "Trig to the trigger line, Echo over 1 kΩ to the echo line and 2 kΩ to GND, VCC to 5 V, GND to GND"
    example = "sensor = gpiozero.DistanceSensor(echo=27, trigger=17, max_distance=4); sensor.distance"

    def attach(self, board: Connections) -> None:
        self._timeline: Timeline = board.timeline
        trigger = board.use_line(self.trigger, f"the trigger of the HC-SR04 on line {self.trigger}")
        self._echo: Line = board.use_line(self.echo, f"the echo of the HC-SR04 on line {self.echo}")
        self._echo.drive(0)
        self._busy_until_ns = 0
        PulseMeter(board.timeline, trigger, self._on_trigger)

    @property
    def echo_time(self) -> float:
        """Seconds for which the echo line is high."""
        if self.distance > FARTHEST:
            return _NO_ECHO
        return 2 * max(self.distance, NEAREST) / (331.3 + 0.606 * self.temperature)

    def _on_trigger(self, width: float) -> None:
        now_ns = self._timeline.moment_ns()
        if width < _LEAST_TRIGGER or now_ns < self._busy_until_ns:
            self.ignored += 1
            return
        self.measurements += 1
        rises_ns = now_ns + round(_BURST * 1e9)
        self._busy_until_ns = rises_ns + round(self.echo_time * 1e9)
        self._timeline.at(rises_ns, lambda: self._echo.drive(1))
        self._timeline.at(self._busy_until_ns, lambda: self._echo.drive(0))
