"""An I2C bus that answers as the recorded one did."""

from __future__ import annotations

import errno
from collections.abc import Sequence

from firmware_sim.bus import Bus
from firmware_sim.i2c_dev import Message
from firmware_sim.nodes import os_error
from firmware_sim.replay.outputs import Outputs
from firmware_sim.timeline import Timeline
from hwloop.trace_events import I2cTransfer


class ReplayedBus(Bus):
    """A bus without devices, whose transfers have the recorded answers, errors and durations.

    A transfer that was not recorded is not acknowledged.
    """

    def __init__(self, number: int, timeline: Timeline, outputs: Outputs) -> None:
        super().__init__(number, timeline)
        self._outputs = outputs
        self._free = timeline.clock.condition()
        self._taken = False

    def transfer(self, messages: Sequence[Message]) -> list[bytes]:
        with self._free:
            self._free.wait_for(lambda: not self._taken)
            self._taken = True
        try:
            return self._answer(messages)
        finally:
            with self._free:
                self._taken = False
                self._free.notify_all()

    def _answer(self, messages: Sequence[Message]) -> list[bytes]:
        clock, outputs, began_ns = self.timeline.clock, self._outputs, self.timeline.now_ns()
        with self.timeline.lock:
            step = outputs.find_transfer(self.number, messages)
        transfer = None if step is None else step.event
        duration_ns = None if not isinstance(transfer, I2cTransfer) else max(0, transfer.end_ns - transfer.when_ns)
        clock.foresee(duration_ns)
        if step is None or duration_ns is None or not isinstance(transfer, I2cTransfer):
            if outputs.is_over(f"i2c {self.number} 0x{messages[0].address:02x}", began_ns, is_transfer=True):
                # The answer would come after the end.
                clock.sleep(self.adapter_timeout)
                raise os_error(errno.ETIMEDOUT)
            with self.timeline.lock:
                outputs.reject_transfer(self.number, messages, began_ns)
            clock.sleep(9 / self.clock)  # the address, which nobody acknowledges
            raise os_error(self.nack_errno)
        clock.sleep(duration_ns / 1e9)
        with self.timeline.lock:
            outputs.complete_transfer(step, began_ns, self.timeline.now_ns())
        if transfer.error:
            raise os_error(getattr(errno, transfer.error, errno.EIO))
        return [message.data for message in transfer.messages if message.direction == "received"]
