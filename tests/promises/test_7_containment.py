"""Promise 7: one failure stays one failure."""

from __future__ import annotations

import asyncio
import os

import pytest

import hwloop


class Broken:
    """A source that fails when it is first read."""

    def __init__(self):
        self.reader, self.writer = os.pipe()
        self.closed = False

    def fileno(self):
        return self.reader

    def on_readable(self):
        raise OSError("the device is gone")

    def close(self):
        if not self.closed:
            os.close(self.reader)
            os.close(self.writer)
        self.closed = True


@pytest.fixture
def reports(stage):
    seen = []
    stage.set_exception_handler(lambda loop, context: seen.append(context))
    return seen


def test_an_exception_goes_to_the_handler_and_the_rest_runs(stage, reports):
    stage.call_soon(stage.work("a", then=lambda: 1 / 0))
    stage.call_soon(stage.work("b"))
    assert stage.play() == ["a", "b"]
    assert isinstance(reports[0]["exception"], ZeroDivisionError)
    assert reports[0]["message"].startswith("Exception in callback")
    assert len(reports) == 1


@pytest.mark.parametrize("debug", [False, True])
def test_a_timer_and_a_reader_that_raise_are_reported_alike(stage, reports, debug):
    stage.set_debug(debug)
    stage.call_later(0.001, stage.work("timer", then=lambda: 1 / 0))
    stage.edge(stage.work("edge", then=lambda: 1 / 0))()
    assert stage.play(2000) == ["edge", "timer"]
    assert [type(report["exception"]) for report in reports] == [ZeroDivisionError] * 2


def test_a_source_that_raises_is_closed_reported_once_and_the_others_go_on(stage, reports):
    source = Broken()
    stage.register(source)
    os.write(source.writer, b"!")
    stage.edge(stage.work("other"))()
    assert stage.play() == ["other"]
    assert source.closed
    assert source not in stage.sources()
    assert len(reports) == 1
    assert reports[0]["source"] is source
    assert "failed and is closed" in reports[0]["message"]


def test_a_source_that_cannot_even_be_closed_is_let_go(stage, reports):
    source = Broken()
    os.write(source.writer, b"!")
    stage.register(source)
    really_close, source.close = source.close, lambda: 1 / 0
    stage.play()
    assert stage.sources() == []
    assert [type(report["exception"]) for report in reports] == [OSError, ZeroDivisionError]
    really_close()


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_an_exit_ends_run_forever_and_the_loop_can_run_again(stage, end):
    def raises():
        raise end

    stage.call_soon(raises)
    stage.call_soon(stage.work("next"))
    with pytest.raises(end):
        stage.run_forever()
    assert stage.play() == ["next"]


def test_an_exception_leaves_no_reference_cycle_that_keeps_it_alive():
    import gc
    import weakref

    class Thing:
        pass

    async def main():
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: None)
        thing = Thing()
        alive = weakref.ref(thing)
        loop.call_soon(lambda kept: 1 / 0, thing)
        del thing
        await asyncio.sleep(0.001)
        return alive()

    gc.collect()
    gc.disable()
    try:
        assert hwloop.run(main()) is None
    finally:
        gc.enable()
