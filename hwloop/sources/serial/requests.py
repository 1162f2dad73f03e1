"""Requests to a device that answers: Modbus RTU, AT commands, an MH-Z19.

A serial line does not say which request a frame answers. So there is one request at a time, and the frame that comes
next is its answer, or the next that its `match` accepts. That goes wrong when an answer comes after its request has
timed out: taken for the next one's answer, it puts the whole conversation one step behind, for good. So a request that
was given up leaves a debt: for some time its answer may still come, and no other request is sent until it has come, and
was dropped, or that time is over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from hwloop.core.naming import short_name
from hwloop.sources.containment import EXITS
from hwloop.sources.serial.framing import Frame

Match = Callable[[bytes], object]
"""Says whether a frame answers the request, by its bytes. An exception counts as "no", and is reported."""

LATE_AT_LEAST = 0.5
"""Seconds after its timeout for which an answer may still come, at least, where the program does not say."""


class Claim(Enum):
    """What a frame is to the requests of its port."""

    ANSWER = "answer"
    LATE = "late"
    UNSOLICITED = "unsolicited"


class _Debt(NamedTuple):
    """An answer that may still come although nobody wants it any more."""

    match: Match | None
    until: float
    """Loop time."""
    settled: asyncio.Event


class Requests:
    """The requests to one port. Its calls come from one loop.

    Parameters:
        name: the port's, for messages.
        prepare: called before a request with its `match`: what has come by then is no answer.
        send: writes a request, and returns the seconds until it is on the wire.
        catch_up: reads what waits to be read.
        take_back: called with an answer that came, and whose request was cancelled before it was resumed.
    """

    def __init__(
        self,
        name: str,
        prepare: Callable[[Match | None], None],
        send: Callable[[bytes | bytearray | memoryview], float],
        catch_up: Callable[[], None],
        take_back: Callable[[Frame], None],
    ) -> None:
        self._name = name
        self._prepare = prepare
        self._send = send
        self._catch_up = catch_up
        self._take_back = take_back
        self._turn = asyncio.Lock()
        self._answer: asyncio.Future[Frame] | None = None
        self._match: Match | None = None
        self._debt: _Debt | None = None

    @property
    def waiting(self) -> bool:
        """Whether a request waits for its answer."""
        return self._answer is not None and not self._answer.done()

    @property
    def expecting(self) -> bool:
        """Whether a frame that comes now may be an answer, wanted or late."""
        return self._answer is not None or self._debt is not None

    async def ask(
        self, data: bytes | bytearray | memoryview, timeout: float | None, late: float | None, match: Match | None
    ) -> Frame:
        """Send a request when it is its turn, and return its answer; `SerialPort.request` has the parameters."""
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
                    self._take_back(answer.result())
                raise
            finally:
                self._answer = self._match = None
                if timer is not None:
                    timer.cancel()

    async def _settle(self) -> None:
        """Wait until no late answer can come any more."""
        debt = self._debt
        if debt is None:
            return
        try:
            async with asyncio.timeout_at(debt.until):
                await debt.settled.wait()
        except TimeoutError:
            self._debt = None

    def _expire(self, answer: asyncio.Future[Frame], timeout: float) -> None:
        """The time for an answer is over."""
        if not answer.done():
            self._catch_up()
        if not answer.done():
            answer.set_exception(TimeoutError(f"{self._name}: no answer within {timeout:g} s"))

    def claim(self, frame: Frame, now: float) -> tuple[Claim, BaseException | None]:
        """Return what a frame is that came at `now` (loop time), and what a `match` raised that was asked for it."""
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

    def resolve(self, frame: Frame) -> None:
        """Resume the request with its answer."""
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(frame)

    def fail(self, error: BaseException) -> None:
        """The port is gone, and no answer will come."""
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
