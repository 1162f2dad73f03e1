"""RateLimiter and throttle, on a clock that leaps from timer to timer."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hwloop
from hwloop.scheduling.limits import TokenBucket

SECOND = 1_000_000_000


def now() -> float:
    """Seconds since the leaping clock began, to the microsecond."""
    return round(asyncio.get_running_loop().time() - 1000, 6)


# The bucket.


def test_a_bucket_does_not_drift():
    bucket = TokenBucket(3)  # 333,333,333 and a third nanoseconds a token
    bucket.take(0)
    for _ in range(10_000):
        due_ns = bucket.due_ns()
        assert not bucket.take(due_ns - 1)
        assert bucket.take(due_ns)
    assert due_ns == 3_333_333_333_334  # 10,000 / 3 seconds, to the nanosecond


@given(
    rate=st.one_of(st.integers(1, 10**6), st.floats(1e-3, 1e6)),
    burst=st.integers(1, 20),
    steps=st.lists(st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 20)), max_size=30),
)
def test_a_bucket_gives_exactly_what_the_rate_allows(rate, burst, steps):
    bucket, now_ns = TokenBucket(rate, burst), 0
    per_ns = Fraction(rate) / SECOND
    least = most = Fraction(burst)  # the exact level, and the most that a nanosecond cut in two can add
    for passed_ns, tokens in steps:
        now_ns += passed_ns
        least = min(burst, least + passed_ns * per_ns)
        most = min(burst + per_ns, most + passed_ns * per_ns)
        if bucket.take(now_ns, tokens):
            assert most >= tokens
            least, most = max(least - tokens, Fraction(0)), most - tokens
        else:
            assert least < tokens
            if tokens <= burst:
                due_ns = bucket.due_ns(tokens)
                assert most + (due_ns - now_ns) * per_ns >= tokens
                assert least + (due_ns - 1 - now_ns) * per_ns < tokens


def test_a_clock_that_goes_back_costs_nothing_and_brings_nothing():
    bucket = TokenBucket(1, 2)
    assert bucket.take(100 * SECOND, 2)
    assert not bucket.take(5 * SECOND)
    assert bucket.take(6 * SECOND)


# RateLimiter.


def test_a_burst_passes_at_once_and_then_one_a_period(leap):
    async def main():
        limiter = hwloop.RateLimiter(rate=10, burst=3)
        times = []
        for _ in range(6):
            await limiter.acquire()
            times.append(now())
        return times

    assert leap(main()) == [0, 0, 0, 0.1, 0.2, 0.3]


def test_a_rest_fills_no_more_than_the_burst(leap):
    async def main():
        limiter = hwloop.RateLimiter(rate=10, burst=2)
        await asyncio.sleep(100)
        return [limiter.try_acquire() for _ in range(3)]

    assert leap(main()) == [True, True, False]


def test_waiting_tasks_are_served_in_the_order_of_their_calls(leap):
    async def main():
        limiter = hwloop.RateLimiter(rate=1, burst=4)
        served = []

        async def ask(name, tokens):
            await limiter.acquire(tokens)
            served.append((name, now()))

        async with asyncio.TaskGroup() as group:
            for name, tokens in [("a", 3), ("b", 4), ("c", 1), ("d", 1)]:
                group.create_task(ask(name, tokens))
        return served

    # One token is left after a; c and d would need no more, and wait all the same.
    assert leap(main()) == [("a", 0), ("b", 3), ("c", 4), ("d", 5)]


def test_nobody_overtakes_those_that_wait(leap):
    async def main():
        limiter = hwloop.RateLimiter(rate=1, burst=2)
        assert limiter.try_acquire()
        waiting = asyncio.create_task(limiter.acquire(2))
        await asyncio.sleep(0.5)
        assert not limiter.try_acquire()
        await waiting
        return now()

    assert leap(main()) == 1


def test_cancelling_one_that_waits_costs_the_next_nothing(leap):
    async def main():
        limiter = hwloop.RateLimiter(rate=1, burst=5)
        assert limiter.try_acquire(5)
        first, second = (asyncio.create_task(limiter.acquire(tokens)) for tokens in (5, 1))
        await asyncio.sleep(0.5)
        first.cancel()
        await second
        return now()

    assert leap(main()) == 1


def test_cancelling_one_that_stood_in_front_of_what_is_there_lets_the_next_pass(leap):
    async def main():
        limiter = hwloop.RateLimiter(rate=1, burst=5)
        assert limiter.try_acquire(3)
        first, second = (asyncio.create_task(limiter.acquire(tokens)) for tokens in (5, 1))
        await asyncio.sleep(0.5)
        first.cancel()
        await second
        return now()

    assert leap(main()) == 0.5


def test_one_that_is_cancelled_as_it_is_served_gives_its_tokens_back(leap):
    async def main():
        limiter = hwloop.RateLimiter(rate=1)
        assert limiter.try_acquire()
        first, second = (asyncio.create_task(limiter.acquire()) for _ in range(2))
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        loop.call_at(1001, first.cancel)  # set after the limiter's timer, so right after it has rung
        await second
        assert first.cancelled()
        return now()

    assert leap(main()) == 1


def test_all_waiters_cancelled_leave_no_timer_and_all_tokens(leap):
    async def main():
        limiter = hwloop.RateLimiter(rate=1, burst=2)
        assert limiter.try_acquire(2)
        assert repr(limiter) == "<RateLimiter 1/s burst 2 waiting 0>"
        tasks = [asyncio.create_task(limiter.acquire()) for _ in range(3)]
        await asyncio.sleep(0.5)
        tasks[1].cancel()
        await asyncio.sleep(0)
        assert repr(limiter) == "<RateLimiter 1/s burst 2 waiting 2>"
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert limiter._timer is None
        await asyncio.sleep(1.5)
        return limiter.try_acquire(2)

    assert leap(main())


def test_a_limiter_is_an_asynchronous_context_manager(leap):
    async def main():
        limiter = hwloop.RateLimiter(rate=2)
        times = []
        for _ in range(3):
            async with limiter:
                times.append(now())
        return times

    assert leap(main()) == [0, 0.5, 1]


def test_a_limiter_may_move_to_another_loop_but_not_while_somebody_waits(leap):
    limiter = hwloop.RateLimiter(rate=10)

    async def main():
        await limiter.acquire()
        await limiter.acquire()
        return now()

    assert leap(main()) == 0.1
    leap(main())

    async def waiting():
        await limiter.acquire()
        await limiter.acquire()

    async def foreign():
        with pytest.raises(RuntimeError, match="another event loop"):
            limiter.try_acquire()

    first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
    task = first.create_task(waiting())
    first.call_soon(first.stop)
    first.run_forever()
    second.run_until_complete(foreign())
    task.cancel()
    first.run_until_complete(asyncio.gather(task, return_exceptions=True))
    first.close()
    second.close()


def test_a_limiter_whose_timers_are_early_waits_on():
    class Early(asyncio.SelectorEventLoop):
        """As uvloop does, which counts in milliseconds."""

        def call_at(self, when, callback, *args, context=None):
            return super().call_at(when - 0.0008, callback, *args, context=context)

    async def main():
        loop = asyncio.get_running_loop()
        limiter = hwloop.RateLimiter(rate=200)
        await limiter.acquire()
        start = loop.time()
        for _ in range(3):
            await limiter.acquire()
        assert loop.time() - start >= 0.0149

    with asyncio.Runner(loop_factory=Early) as runner:
        runner.run(main())


@pytest.mark.parametrize("rate", [0, -1, float("nan"), float("inf"), 1e-300])
def test_an_invalid_rate_raises(rate):
    with pytest.raises(ValueError, match="a rate"):
        hwloop.RateLimiter(rate)
    with pytest.raises(ValueError, match="a rate"):
        hwloop.throttle(rate=rate)


@pytest.mark.parametrize(("options", "error"), [((1, 0), ValueError), ((1, 1.5), TypeError), (("1",), TypeError)])
def test_an_invalid_burst_or_type_raises(options, error):
    with pytest.raises(error, match="must be"):
        hwloop.RateLimiter(*options)


@pytest.mark.parametrize("tokens", [0, -1, 4])
def test_more_tokens_than_the_burst_or_none_raise(leap, tokens):
    async def main():
        limiter = hwloop.RateLimiter(rate=1, burst=3)
        with pytest.raises(ValueError, match="from 1 to the burst of 3"):
            await limiter.acquire(tokens)
        with pytest.raises(ValueError, match="from 1 to the burst of 3"):
            limiter.try_acquire(tokens)

    leap(main())


# throttle, plain functions.


def throttled(**options):
    ran = []

    @hwloop.throttle(**options)
    def function(value):
        ran.append((value, now()))

    return function, ran


async def call_each_10_ms(function, count):
    for value in range(count):
        function(value)
        await asyncio.sleep(0.01)


def test_drop_runs_what_is_within_the_limit_and_drops_the_rest(leap):
    async def main():
        function, ran = throttled(rate=40, mode="drop")
        await call_each_10_ms(function, 6)
        await asyncio.sleep(1)
        return ran, function.statistics()

    assert leap(main()) == ([(0, 0), (3, 0.03)], (6, 2, 4, 0))


def test_latest_runs_the_last_arguments_once_the_limit_allows(leap):
    async def main():
        function, ran = throttled(rate=40, mode="latest")
        await call_each_10_ms(function, 4)
        assert function.statistics() == (4, 2, 1, 1)
        await asyncio.sleep(1)
        return ran, function.statistics()

    assert leap(main()) == ([(0, 0), (2, 0.025), (3, 0.05)], (4, 3, 1, 0))


def test_queue_runs_all_in_order_until_it_is_full(leap):
    async def main():
        function, ran = throttled(rate=10, mode="queue", burst=2, queue_size=3)
        for value in range(7):
            function(value)
        assert function.statistics() == (7, 2, 2, 3)
        await asyncio.sleep(1)
        return ran, function.statistics()

    assert leap(main()) == ([(0, 0), (1, 0), (2, 0.1), (3, 0.2), (4, 0.3)], (7, 5, 2, 0))


def test_cancel_drops_what_waits_and_later_calls_are_served(leap):
    async def main():
        function, ran = throttled(rate=10, mode="queue")
        for value in range(3):
            function(value)
        function.cancel()
        await asyncio.sleep(1)
        function(9)
        return ran, function.statistics()

    assert leap(main()) == ([(0, 0), (9, 1)], (4, 2, 2, 0))


def test_an_exception_of_a_throttled_function_goes_to_the_caller_at_once_and_to_the_loop_later(leap):
    async def main():
        reports = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: reports.append(context["exception"]))

        @hwloop.throttle(rate=10, mode="queue")
        def fail(value):
            raise ValueError(value)

        with pytest.raises(ValueError, match="0"):
            fail(0)
        fail(1)
        fail(2)
        await asyncio.sleep(1)
        assert fail.statistics() == (3, 3, 0, 0)
        return [str(error) for error in reports]

    assert leap(main()) == ["1", "2"]


def test_a_later_call_runs_in_the_context_in_which_it_was_made(leap):
    variable = contextvars.ContextVar("variable")
    seen = []

    @hwloop.throttle(rate=10, mode="latest")
    def look():
        seen.append(variable.get())

    async def main():
        for value in range(3):
            variable.set(value)
            look()
        variable.set("later")
        await asyncio.sleep(1)

    leap(main())
    assert seen == [0, 2]


def test_a_method_shares_its_limit_among_instances(leap):
    ran = []

    class Lamp:
        @hwloop.throttle(rate=10, mode="drop")
        def set(self, value):
            """Switch it."""
            ran.append((self, value))

    async def main():
        first, second = Lamp(), Lamp()
        first.set(1)
        second.set(value=2)
        assert ran == [(first, 1)]
        assert first.set.statistics() == (2, 1, 1, 0)
        assert first.set.__doc__ == "Switch it."

    leap(main())


def test_calls_that_waited_on_an_earlier_loop_are_dropped(leap):
    function, ran = throttled(rate=10, mode="queue")

    async def main(value):
        function(value)
        function(value)

    leap(main(1))
    leap(main(2))
    assert [value for value, _ in ran] == [1]
    assert function.statistics() == (4, 1, 1, 2)


# throttle, coroutine functions.


def throttled_coroutine(**options):
    @hwloop.throttle(**options)
    async def function(value):
        return value, now()

    return function


def test_a_dropped_coroutine_returns_none_at_once(leap):
    async def main():
        function = throttled_coroutine(rate=10, mode="drop")
        return [await function(value) for value in range(2)], function.statistics()

    assert leap(main()) == ([(0, 0), None], (2, 1, 1, 0))


def test_queued_coroutines_wait_their_turn_in_their_own_tasks(leap):
    async def main():
        function = throttled_coroutine(rate=10, mode="queue", queue_size=2)
        return await asyncio.gather(*(function(value) for value in range(4))), function.statistics()

    assert leap(main()) == ([(0, 0), (1, 0.1), (2, 0.2), None], (4, 3, 1, 0))


def test_a_later_coroutine_takes_the_place_of_one_that_waits(leap):
    async def main():
        function = throttled_coroutine(rate=10, mode="latest")
        return await asyncio.gather(*(function(value) for value in range(4))), function.statistics()

    assert leap(main()) == ([(0, 0), None, None, (3, 0.1)], (4, 2, 2, 0))


def test_cancel_lets_coroutines_that_wait_return_none(leap):
    async def main():
        function = throttled_coroutine(rate=10, mode="queue")
        asyncio.get_running_loop().call_later(0.05, function.cancel)
        return await asyncio.gather(*(function(value) for value in range(3))), now()

    assert leap(main()) == ([(0, 0), None, None], 0.05)


@pytest.mark.parametrize("when", [0.05, 0.1])
def test_cancelling_a_coroutine_that_waits_gives_its_turn_to_the_next(leap, when):
    async def main():
        function = throttled_coroutine(rate=10, mode="queue")
        tasks = [asyncio.create_task(function(value)) for value in range(3)]
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_at(1000 + when, tasks[1].cancel)  # at 0.1: as it is let through
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[1], asyncio.CancelledError)
        return results[0], results[2], function.statistics()

    assert leap(main()) == ((0, 0), (2, 0.1), (3, 2, 1, 0))


def test_cancelling_one_just_before_its_turn_leaves_the_turn_to_the_next(leap):
    async def main():
        function = throttled_coroutine(rate=10, mode="queue")
        tasks = [asyncio.create_task(function(value)) for value in range(2)]
        asyncio.get_running_loop().call_at(1000.1, lambda: tasks[1].cancel())  # the limiter's timer is set after it
        tasks.append(asyncio.create_task(function(2)))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        return results[2], function.statistics()

    assert leap(main()) == ((2, 0.1), (3, 2, 1, 0))


def test_a_throttled_coroutine_function_is_one():
    assert inspect.iscoroutinefunction(throttled_coroutine(rate=1))


# throttle, bad input.


@pytest.mark.parametrize(
    ("options", "message"),
    [({"mode": "explode"}, "'drop', 'latest', 'queue'"), ({"queue_size": 0}, "queue_size"), ({"burst": 0}, "burst")],
)
def test_invalid_options_of_throttle_raise(options, message):
    with pytest.raises(ValueError, match=message):
        hwloop.throttle(rate=1, **options)


def generator():
    yield


async def async_generator():
    yield


@pytest.mark.parametrize("bad", [None, 5, generator, async_generator])
def test_only_functions_can_be_throttled(bad):
    with pytest.raises(TypeError, match="throttle is for"):
        hwloop.throttle(rate=1)(bad)


def test_a_throttled_function_needs_a_running_loop():
    function, ran = throttled(rate=1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        function(1)
    assert ran == []
