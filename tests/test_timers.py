"""every(): ticks on a grid, however long the work takes."""

from __future__ import annotations

import asyncio
import itertools

import pytest

import hwloop


def test_ticks_lie_on_a_grid_of_whole_periods(run):
    async def main():
        scheduled = []
        async for tick in hwloop.every(0.001):
            scheduled.append(tick.scheduled)
            assert tick.lateness >= 0
            if len(scheduled) == 20:
                return scheduled

    scheduled = run(main())
    periods = [(later - scheduled[0]) / 0.001 for later in scheduled]
    assert all(abs(period - round(period)) < 1e-5 for period in periods)


def test_work_that_takes_longer_than_a_period_skips_ticks_and_counts_them(run):
    async def main():
        ticks = []
        async for tick in hwloop.every(0.002):
            ticks.append(tick)
            if len(ticks) == 4:
                return ticks
            await asyncio.sleep(0.005)

    ticks = run(main())
    for before, after in itertools.pairwise(ticks):
        assert round((after.scheduled - before.scheduled) / 0.002) == after.missed + 1
    assert sum(tick.missed for tick in ticks) >= 3


def test_ticks_do_not_drift():
    """On a clock that jumps from tick to tick, the last is where it belongs, to the nanosecond."""

    class Jumping(hwloop.EventLoop):
        clock = 1.0

        def time(self):
            return self.clock

        def call_at(self, when, callback, *args, context=None):
            self.clock = when
            return self.call_soon(callback, *args, context=context)

    async def main():
        count = 0
        async for tick in hwloop.every(0.001):
            count += 1
            if count == 20_000:
                return tick

    with asyncio.Runner(loop_factory=Jumping) as runner:
        tick = runner.run(main())
    assert tick.missed == 0
    assert abs(tick.scheduled - 21.0) < 1e-9


@pytest.mark.parametrize("period", [0, -1, 1e-9, float("nan"), float("inf")])
def test_an_invalid_period_raises(period):
    with pytest.raises(ValueError, match="period"):
        hwloop.every(period)


def test_cancelling_the_task_leaves_no_timer(run):
    async def main():
        async def ticking():
            async for _ in hwloop.every(100):
                pass

        task = asyncio.create_task(ticking())
        await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        loop = asyncio.get_running_loop()
        if isinstance(loop, hwloop.EventLoop):
            await asyncio.sleep(0.001)
            assert all(timer.cancelled() for timer in loop._timers.all())

    run(main())
