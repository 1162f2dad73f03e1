"""Async fixtures of tests that use the board: they run on its loop, in virtual time."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

pytest_plugins = ["pytester"]

COLOUR: contextvars.ContextVar[str] = contextvars.ContextVar("colour", default="none")


@pytest.fixture
async def an_hour():
    await asyncio.sleep(3000)
    COLOUR.set("red")
    return asyncio.get_running_loop()


async def test_fixtures_and_test_share_the_loop_its_time_and_context_variables(an_hour, board):
    loop = asyncio.get_running_loop()
    assert an_hour is loop is board.loop
    assert loop.time() == 3001
    assert COLOUR.get() == "red"


def test_a_program_runs_in_a_fixture_and_has_ended_after_the_test(suite):
    result = suite(
        """
        import asyncio, pytest

        events = []

        @pytest.fixture
        async def blinking(board):
            async def blink():
                try:
                    while True:
                        board.line(4).drive(1 - board.line(4).level)
                        await asyncio.sleep(1)
                finally:
                    events.append("cancelled")

            async with board.run(blink()) as program:
                yield program
            events.append("ended")

        async def test_blinks(board, blinking):
            await asyncio.sleep(9.5)
            assert len(board.trace.edges(4)) == 10
            assert not blinking.done

        def test_has_ended():
            assert events == ["cancelled", "ended"]
        """
    )
    result.assert_outcomes(passed=2)


def test_a_failing_program_of_a_fixture_ends_the_test_at_once(suite):
    result = suite(
        """
        import asyncio, pytest

        @pytest.fixture
        async def program(board):
            async def main():
                await asyncio.sleep(2)
                raise ValueError("no such sensor")

            async with board.run(main()):
                yield

        async def test_waits(board, program):
            await asyncio.sleep(100)
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * ValueError: no such sensor"])
