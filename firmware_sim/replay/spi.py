"""SPI transfers that are answered as the recorded ones were."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from firmware_sim.nodes import os_error
from firmware_sim.replay.outputs import END_NS, Outputs
from firmware_sim.spi import Segment, SpiBus, selections
from hwloop.trace_events import SpiTransfer


class SpiAnswers:
    """The recorded answers, errors and durations of a bus. A transfer that was not recorded reads zeros."""

    def __init__(self, bus: SpiBus, outputs: Outputs) -> None:
        self._bus = bus
        self._outputs = outputs

    def transfer(self, select: int, segments: Sequence[Segment]) -> list[bytes]:
        """Return what was read in each segment. Raises the recorded error."""
        answers = []
        for selection in selections(segments):
            data = self._answer(select, b"".join(segment.sent for segment in selection))
            for segment in selection:
                answers.append(data[: len(segment.sent)])
                data = data[len(segment.sent) :]
        return answers

    def _answer(self, select: int, sent: bytes) -> bytes:
        timeline, outputs = self._bus.timeline, self._outputs
        began_ns = timeline.now_ns()
        with timeline.lock:
            step = outputs.find_exchange(self._bus.number, select, sent)
        transfer = None if step is None else step.event
        if step is None or not isinstance(transfer, SpiTransfer):
            timeline.clock.foresee(None)
            if outputs.is_over(f"spi {self._bus.number}.{select}", began_ns, is_transfer=True):
                timeline.clock.sleep(END_NS / 1e9)  # the answer would come after the end
            else:
                with timeline.lock:
                    outputs.reject_exchange(self._bus.number, select, sent, began_ns)
            return bytes(len(sent))
        duration_ns = max(0, transfer.end_ns - transfer.when_ns)
        timeline.clock.foresee(duration_ns)
        timeline.clock.sleep(duration_ns / 1e9)
        with timeline.lock:
            outputs.complete_transfer(step, began_ns, timeline.now_ns())
        if transfer.error:
            raise os_error(getattr(errno, transfer.error, errno.EIO))
        return transfer.received
