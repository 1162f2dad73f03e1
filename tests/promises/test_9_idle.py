"""Promise 9: nothing ready and no timer: no wakeups."""

from __future__ import annotations

import asyncio
import threading

import hwloop


def count_waits(loop):
    """Have the loop note each wait of its dispatch loop."""
    waits = []
    poll = loop._poller.poll

    def counted(when):
        waits.append(when)
        return poll(when)

    loop._poller.poll = counted
    return waits


def test_an_idle_loop_waits_once():
    async def main():
        loop = asyncio.get_running_loop()
        future = loop.create_future()
        await asyncio.sleep(0)
        waits = count_waits(loop)
        threading.Timer(0.1, loop.call_soon_threadsafe, (future.set_result, None)).start()
        await future
        # The wait itself, and the look after which the future's result was delivered.
        assert len(waits) <= 4
        assert waits[0] is None or waits[1] is None

    hwloop.run(main())


def test_the_alarm_of_a_cancelled_timer_does_not_wake_an_idle_loop():
    async def main():
        loop = asyncio.get_running_loop()
        timer = loop.call_later(0.05, print)
        await asyncio.sleep(0.001)  # the alarm has been set beyond it by now
        timer.cancel()
        future = loop.create_future()
        waits = count_waits(loop)
        threading.Timer(0.15, loop.call_soon_threadsafe, (future.set_result, None)).start()
        await future
        assert len(waits) <= 4

    hwloop.run(main())
