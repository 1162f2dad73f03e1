"""Requests to a device that answers: Modbus RTU, AT commands, an MH-Z19.

A serial line does not show which request a frame answers. So there is one request at a time, and the next frame is its
answer, or the next that its `match` accepts. This fails when an answer arrives after its request has timed out: taken
for the answer of the next request, it puts the whole conversation one step behind, for good. So a request that timed
out or was cancelled leaves a debt: for some time its answer may still arrive, and no other request is sent until it has
arrived and was dropped, or that time is over.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import NamedTuple

from hwloop.core.naming import short_name
from hwloop.sources.channel import Channel
from hwloop.sources.containment import EXITS
from hwloop.sources.serial.framing import Frame

Match = Callable[[bytes], object]
"""Returns whether a frame answers the request, by its bytes. An exception counts as "no", and is reported."""

LATE_AT_LEAST = 0.5
"""Seconds after its timeout for which an answer may still arrive: the least default of `late`."""


class Claim(Enum):
    """The relation of a frame to the requests of its port."""

    ANSWER = "answer"
    LATE = "late"
    UNSOLICITED = "unsolicited"


class _Debt(NamedTuple):
    """An answer that may still arrive although its request has ended."""

    match: Match | None
    until: float
    """Loop time."""
    settled: asyncio.Event


class Requests:
    """The requests to one port. Its calls come from one loop.

    Parameters:
        name: the port's, for messages.
        channel: the port's, which counts the answers.
        prepare: called before a request with its `match`: frames that arrived by then are no answers.
        send: writes a request, and returns the seconds until it is on the wire.
        catch_up: reads the bytes that are there.
        keep_reading: called while an answer is expected, to read on although the queue is full.
        failed: called with a message and the exception of a `match`.
    """

    def __init__(
        self,
        name: str,
        channel: Channel[Frame],
        *,
        prepare: Callable[[Match | None], None],
        send: Callable[[bytes | bytearray | memoryview], float],
        catch_up: Callable[[], None],
        keep_reading: Callable[[], None],
        failed: Callable[[str, BaseException], None],
    ) -> None:
        self._name = name
        self._channel = channel
        self._prepare = prepare
        self._send = send
        self._catch_up = catch_up
        self._keep_reading = keep_reading
        self._failed = failed
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[Frame] | None = None
        self._match: Match | None = None
        self._debt: _Debt | None = None

    @property
    def expecting(self) -> bool:
        """Whether a frame that arrives now may be an answer, wanted or late."""
        return self._answer is not None or self._debt is not None

    async def ask(
        self, data: bytes | bytearray | memoryview, timeout: float | None, late: float | None, match: Match | None
    ) -> Frame:
        """Send a request when its turn comes, and return its answer; `SerialPort.request` has the parameters."""
        if late is None:
            late = max(timeout or 0.0, LATE_AT_LEAST)
        loop = asyncio.get_running_loop()
        async with self._turn:
            await self._settle()
            self._prepare(match)
            self._match = match
            answer: asyncio.Future[Frame] = loop.create_future()
            self._answer = answer
            deadline = loop.time()
            timer = None
            try:
                deadline += self._send(data) + (timeout or 0.0)
                if timeout is not None:
                    timer = loop.call_at(deadline, self._expire, answer, timeout)
                return await answer
            except (TimeoutError, asyncio.CancelledError):
                error = None if answer.cancelled() else answer.exception()
                if answer.cancelled() or isinstance(error, TimeoutError):
                    self._debt = _Debt(match, max(deadline, loop.time()) + late, asyncio.Event())
                elif error is None:
                    self._channel.take_back(answer.result())
                raise
            finally:
                self._answer = self._match = None
                if timer is not None:
                    timer.cancel()

    async def _settle(self) -> None:
        """Wait until no late answer can arrive any more."""
        debt = self._debt
        if debt is None:
            return
        try:
            async with asyncio.timeout_at(debt.until):
                await debt.settled.wait()
        except TimeoutError:
            self._debt = None

    def _expire(self, answer: asyncio.Future[Frame], timeout: float) -> None:
        """The timeout has passed."""
        if not answer.done():
            self._catch_up()
        if not answer.done():
            answer.set_exception(TimeoutError(f"{self._name}: no answer within {timeout:g} s"))

    def unclaimed(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Return the frames that are no answers; answers go to their requests, and late ones are dropped.

        That is done at once: callbacks may have much to do with the frames before an answer.
        """
        now = asyncio.get_running_loop().time()
        others = [frame for frame in frames if not self._took(frame, now)]
        return itertools.chain(self._reading_on(others))  # no generator: the source has read these frames

    def _took(self, frame: Frame, now: float) -> bool:
        """Deal with a frame that arrived at `now` (loop time) if it is an answer. Return whether it was."""
        claim, wrong = self._claim(frame, now)
        if wrong is not None:
            self._failed("exception in a request's match", wrong)
        if claim is Claim.ANSWER:
            self._resolve(self._channel.bypass(frame))
        elif claim is Claim.LATE:
            self._channel.discard(frame)
        return claim is not Claim.UNSOLICITED

    def _reading_on(self, frames: list[Frame]) -> Iterator[Frame]:
        for frame in frames:
            yield frame
            if self._answer is not None and not self._answer.done():
                self._keep_reading()

    def _claim(self, frame: Frame, now: float) -> tuple[Claim, BaseException | None]:
        """Return the relation of a frame that arrived at `now` (loop time), and an exception of its `match`."""
        debt = self._debt
        if debt is not None:
            late, wrong = _accepts(debt.match, frame) if now < debt.until else (True, None)
            if not late:
                return Claim.UNSOLICITED, wrong
            self._forgive()
            if now < debt.until:
                return Claim.LATE, None
        answer = self._answer
        if answer is None or answer.done():
            return Claim.UNSOLICITED, None
        accepted, wrong = _accepts(self._match, frame)
        return (Claim.ANSWER if accepted and not answer.done() else Claim.UNSOLICITED), wrong

    def _resolve(self, frame: Frame) -> None:
        """Resume the request with its answer."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(frame)

    def fail(self, error: BaseException) -> None:
        """End the request with `error`: the port is gone, and no answer will arrive."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_exception(error)
        self._forgive()

    def _forgive(self) -> None:
        debt, self._debt = self._debt, None
        if debt is not None:
            debt.settled.set()


def check_request(name: str, timeout: float | None, late: float | None, match: Match | None) -> None:
    """Raise `ValueError` or `TypeError` for arguments of a request that make no sense."""
    for what, seconds in (("timeout", timeout), ("late", late)):
        if seconds is None:
            continue
        if isinstance(seconds, bool) or not isinstance(seconds, int | float):
            raise TypeError(f"{name}: {what} must be a number of seconds, not {short_name(seconds)}")
        if not seconds >= 0:
            raise ValueError(f"{name}: {what} must be 0 seconds or more, not {short_name(seconds)}")
    if match is not None and not callable(match):
        raise TypeError(f"{name}: match must be a function of bytes, not {short_name(match)}")


def _accepts(match: Match | None, frame: Frame) -> tuple[bool, BaseException | None]:
    if match is None:
        return True, None
    try:
        return bool(match(frame.data)), None
    except EXITS:
        raise
    except BaseException as error:
        return False, error
