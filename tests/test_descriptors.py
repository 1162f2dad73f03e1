"""Descriptors that are closed, reopened and duplicated behind the loop's back: the loop does what asyncio's does.

The differential test plays one random script on both loops and compares what each call returned or raised and which
callbacks ran. The scripts use fixed numbers, as the kernel hands out the lowest free one and so the same again.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import random
import select
import selectors
import socket
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import hwloop
from hwloop import Priority
from hwloop.core.naming import short_name

NUMBERS = range(3)
SCRIPTS = int(os.environ.get("HWLOOP_TEST_SCRIPTS", "150"))
"""How many random scripts are played; the environment variable asks for a long run."""


class Place:
    """A descriptor number that a script opens and closes, as an object with `fileno()`."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.peer: socket.socket | None = None

    def fileno(self) -> int:
        return -1 if self.peer is None else self.number

    def open(self) -> None:
        """Open a new socket pair here; whatever is open here is closed, as dup2(2) does."""
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        if ours.fileno() == self.number:
            ours.detach()
        else:
            os.dup2(ours.fileno(), self.number, inheritable=False)
            ours.close()
        self.shut_peer()
        self.peer = peer

    def close(self) -> None:
        if self.peer is not None:
            os.close(self.number)
            self.shut_peer()

    def shut_peer(self) -> None:
        if self.peer is not None:
            self.peer.close()
            self.peer = None


class Player:
    """Plays a script on a loop and keeps a record of what came of it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, base: int) -> None:
        self.loop = loop
        self.places = [Place(base + number) for number in NUMBERS]
        self.objects: dict[int, Place] = {}
        self.record: list[Any] = []
        self.ran: list[Any] = []

    def play(self, script: list[tuple[Any, ...]]) -> list[Any]:
        for step in range(len(script)):
            self.do(script[step], step)
        self.turn(len(script))
        return self.record

    def do(self, action: tuple[Any, ...], step: int) -> None:
        verb, number, how, *reaction = action
        place = self.places[number]
        if verb in ("open", "close"):
            getattr(place, verb)()
        elif verb == "write":
            if place.peer is not None:
                place.peer.send(b"!")
        elif verb == "read":
            with contextlib.suppress(OSError):
                os.read(place.number, 100)
        elif verb == "run":
            self.turn(step)
        else:
            self.call(verb, place, how, step, reaction)

    def react(self, cause: tuple[str, int], reaction: list[tuple[Any, ...]]) -> None:
        """The callback of a descriptor: it acts once."""
        self.ran.append(cause)
        if reaction:
            self.do(reaction.pop(), cause[1])

    def call(self, verb: str, place: Place, how: str, step: int, reaction: list[tuple[Any, ...]]) -> None:
        target = place if how == "object" else place.number
        arguments = (self.react, (verb, step), reaction) if verb.startswith("add") else ()
        try:
            outcome: Any = getattr(self.loop, verb)(target, *arguments)
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            outcome = type(error), getattr(error, "errno", None)
        self.record.append((step, verb, outcome))

    def turn(self, step: int) -> None:
        """One turn of the loop, in which each callback of a ready descriptor runs once."""
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()
        self.record.append((step, sorted(self.ran)))
        self.ran.clear()


def random_script(chance: random.Random) -> list[tuple[Any, ...]]:
    verbs = ["open"] * 3 + ["close"] * 2 + ["write", "read", "run", "run"]
    verbs += ["add_reader", "add_writer", "remove_reader", "remove_writer"] * 2
    kind = chance.choice(["number", "object", "both"])
    script = []
    for _ in range(chance.randrange(4, 30)):
        how = kind if kind != "both" else chance.choice(["number", "object"])
        action = (chance.choice(verbs), chance.choice(NUMBERS[: chance.choice([1, 3])]), how)
        if action[0].startswith("add") and chance.random() < 0.3:
            reaction = chance.choice([verb for verb in verbs if verb != "run"])
            action += ((reaction, action[1], how),)  # to another one, the order in which epoll reports would matter
        script.append(action)
    return script


def played(make: Callable[[], asyncio.AbstractEventLoop], script: list[tuple[Any, ...]], base: int) -> list[Any]:
    loop = make()
    player = Player(loop, base)
    try:
        return player.play(script)
    finally:
        for place in player.places:
            place.close()
        loop.close()


@pytest.fixture(scope="module")
def base() -> int:
    """The first of a row of numbers that nothing else uses."""
    return 300


@pytest.mark.parametrize("selector", [selectors.DefaultSelector, selectors.PollSelector])
def test_random_scripts_end_as_on_asyncios_loop(selector: Any, base: int) -> None:
    for seed in range(SCRIPTS):
        script = random_script(random.Random(seed))
        stock = played(lambda: asyncio.SelectorEventLoop(selector()), script, base)
        ours = played(lambda: hwloop.EventLoop(selector()), script, base)
        assert ours == stock, f"seed {seed}: {script}"


class CountsPolls(hwloop.EventLoop):
    """A loop that counts its polls."""

    def __init__(self) -> None:
        super().__init__()
        self.polls = 0
        poll = self._poller.poll

        def counted(when: float | None) -> list[tuple[int, int]]:
            self.polls += 1
            return poll(when)

        self._poller.poll = counted  # type: ignore[method-assign]


@pytest.fixture
def loop() -> Iterator[CountsPolls]:
    with contextlib.closing(CountsPolls()) as loop:
        yield loop


def turn(loop: asyncio.AbstractEventLoop) -> None:
    loop.call_soon(loop.stop)
    loop.run_forever()


def polls_while_idle(loop: CountsPolls) -> int:
    before = loop.polls
    loop.run_until_complete(asyncio.sleep(0.02))
    return loop.polls - before


@pytest.fixture
def kept_open() -> Iterator[tuple[int, socket.socket]]:
    """A readable descriptor's number, and its duplicate, which stays open."""
    ours, peer = socket.socketpair()
    peer.send(b"!")
    number = ours.detach()
    duplicate = socket.socket(fileno=os.dup(number))
    yield number, duplicate
    peer.close()
    duplicate.close()


@pytest.mark.parametrize("own_clock", [False, True])
def test_a_closed_descriptor_that_a_duplicate_keeps_open_does_not_keep_the_loop_awake(kept_open, own_clock):
    class OwnClock(CountsPolls):
        def time(self):
            return asyncio.SelectorEventLoop.time(self)

    number, _ = kept_open
    with contextlib.closing(OwnClock() if own_clock else CountsPolls()) as loop:
        loop.add_reader(number, lambda: None)
        os.close(number)
        assert loop.remove_reader(number)
        turn(loop)
        assert polls_while_idle(loop) < 20


def test_a_number_that_a_duplicate_keeps_open_does_not_report_to_its_next_owner(loop, kept_open):
    number, _ = kept_open
    loop.add_reader(number, lambda: None)
    os.close(number)
    loop.remove_reader(number)
    place, ran = Place(number), []
    place.open()
    loop.add_reader(number, ran.append, 1)
    turn(loop)
    assert ran == []
    place.peer.send(b"!")
    turn(loop)
    assert ran == [1]
    loop.remove_reader(number)
    place.close()


def test_a_duplicate_back_at_its_number_can_be_watched_again(loop, kept_open):
    number, duplicate = kept_open
    loop.add_reader(number, lambda: None)
    os.close(number)
    loop.remove_reader(number)
    os.dup2(duplicate.fileno(), number)
    ran = []
    loop.add_reader(number, ran.append, 1)
    turn(loop)
    assert ran == [1]
    loop.remove_reader(number)
    os.close(number)


def test_a_fresh_set_knows_all_others_and_not_what_took_a_number_over(loop, kept_open):
    number, _ = kept_open
    ran: list[str] = []
    with contextlib.ExitStack() as stack:
        places = [Place(300 + index) for index in range(3)]
        for place in places:
            place.open()
            stack.callback(place.close)
        loop.add_reader(places[0], ran.append, "reader")
        loop.add_writer(places[1], ran.append, "writer")
        loop.add_reader(places[2].number, ran.append, "of a closed one")
        places[2].open()  # by code that does not use the loop
        loop.add_reader(number, lambda: None)
        os.close(number)
        loop.remove_reader(number)
        for place in places:
            place.peer.send(b"!")
        turn(loop)  # the stale event, which has the set replaced
        for _ in range(20):  # they are ready all the time
            ran.clear()
            turn(loop)
            assert sorted(ran) == ["reader", "writer"]
        loop.call_later(0.001, ran.append, "timer")
        loop.remove_reader(places[0])
        loop.remove_writer(places[1])
        assert polls_while_idle(loop) < 20
        assert ran[-1] == "timer"


def test_objects_kept_for_a_closed_descriptor_are_released():
    class Kept:
        pass

    for remove in ("remove_reader", "remove_writer"):
        with contextlib.closing(hwloop.new_event_loop()) as loop:
            kept = Kept()
            place = Place(300)
            place.open()
            loop.add_reader(place, print, kept)
            loop.add_writer(place, print, kept)
            number, seen = place.number, weakref.ref(kept)
            place.close()
            del kept
            with pytest.raises(OSError, match="Bad file descriptor"):
                getattr(loop, remove)(number)
            gc.collect()
            assert seen() is None
            assert not loop.remove_reader(number)
            assert not loop.remove_writer(number)


def test_a_watcher_cancelled_by_its_handle_is_removed_when_it_is_ready(loop):
    place = Place(300)
    place.open()
    handle = loop._add_writer(place, print)
    handle.cancel()
    turn(loop)
    assert not loop.remove_writer(place)
    assert polls_while_idle(loop) < 20
    place.close()


# Sources.


class Pipe:
    """A source that counts its readings."""

    priority = Priority.INTERRUPT

    def __init__(self) -> None:
        self.reader, self.writer = os.pipe()
        self.ran = 0

    def fileno(self) -> int:
        return self.reader

    def on_readable(self) -> None:
        self.ran += 1
        os.read(self.reader, 100)

    def close(self) -> None:
        os.close(self.reader)
        os.close(self.writer)


def moved(source: Pipe, number: int) -> Pipe:
    os.dup2(source.reader, number, inheritable=False)
    os.close(source.reader)
    source.reader = number
    return source


def test_a_source_takes_a_number_over_from_one_that_was_closed_and_not_unregistered(loop):
    first, second = moved(Pipe(), 300), Pipe()
    loop.register(first)
    first.close()
    loop.register(moved(second, 300))
    os.write(second.writer, b"!")
    turn(loop)
    assert (first.ran, second.ran) == (0, 1)
    loop.unregister(first)  # which takes nothing from its successor
    os.write(second.writer, b"!")
    turn(loop)
    assert second.ran == 2
    assert loop.sources() == [second]
    loop.unregister(second)
    second.close()


@pytest.mark.parametrize("kept_open", [False, True])
@pytest.mark.parametrize("direction", ["reader", "writer"])
def test_a_number_that_a_source_has_closed_is_anybodys_reader_or_writer(loop, direction, kept_open):
    source = moved(Pipe(), 300)
    loop.register(source)
    duplicate = os.dup(300) if kept_open else -1
    source.close()
    ours, theirs = socket.socketpair()
    os.dup2(ours.fileno(), 300, inheritable=False)
    ran: list[str] = []
    getattr(loop, f"add_{direction}")(300, ran.append, direction)
    theirs.send(b"!")
    turn(loop)
    assert ran[:1] == [direction]
    assert source.ran == 0
    loop.unregister(source)  # which takes nothing from its successor
    ran.clear()
    turn(loop)
    assert ran[:1] == [direction]
    assert getattr(loop, f"remove_{direction}")(300)
    os.close(300)
    ours.close()
    theirs.close()
    if kept_open:
        os.close(duplicate)


def test_a_source_whose_number_is_watched_is_rejected(loop):
    source = Pipe()
    loop.add_reader(source.reader, print)
    with pytest.raises(ValueError, match="watched already"):
        loop.register(source)
    loop.remove_reader(source.reader)
    source.close()


def test_a_source_that_closed_its_descriptor_and_fails_does_not_end_the_loop(loop):
    class Failing(Pipe):
        def on_readable(self) -> None:
            self.close()
            raise ZeroDivisionError

        def close(self) -> None:
            os.close(self.reader)

    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context.get("exception")))
    source = Failing()
    os.write(source.writer, b"!")
    loop.add_writer(source.reader, print)  # a pipe's reader is never writable
    loop.register(source)
    turn(loop)
    assert [type(report) for report in reports] == [ZeroDivisionError, OSError]
    assert loop.sources() == []
    os.close(source.writer)


class Hostile(Pipe):
    """A source whose every special method raises, apart from those that are asked for."""

    def __eq__(self, other: object) -> bool:
        raise asyncio.CancelledError

    __hash__ = __repr__ = __str__ = __eq__  # type: ignore[assignment]


@pytest.mark.parametrize("failure", [asyncio.CancelledError, RuntimeError, GeneratorExit])
def test_a_source_that_can_not_be_compared_or_shown_is_served_and_given_up_like_any_other(loop, failure):
    class Failing(Hostile):
        def on_readable(self) -> None:
            super().on_readable()
            if self.ran == 2:
                raise failure

        def close(self) -> None:
            super().close()
            raise failure

    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    source, other = Failing(), Pipe()
    loop.register(source)
    loop.register(other)
    for _ in range(2):
        os.write(source.writer, b"!")
        turn(loop)
    assert loop.sources() == [other]
    assert [type(report["exception"]) for report in reports] == [failure, failure]
    assert reports[0]["message"] == f"{short_name(source)} failed and is closed"
    os.write(other.writer, b"!")
    turn(loop)
    assert other.ran == 1
    loop.unregister(other)
    other.close()


@pytest.mark.parametrize("attribute", ["on_readable", "fileno", "priority", "deadline"])
def test_a_source_whose_attribute_raises_is_not_registered(loop, attribute):
    def fail(_: object) -> None:
        raise asyncio.CancelledError

    source = type("Source", (Pipe,), {attribute: property(fail)})()
    with pytest.raises(asyncio.CancelledError):
        loop.register(source)
    assert loop.sources() == []
    assert source.reader not in loop._poller.descriptors.keys
    source.close()


# Many at once.


@pytest.mark.parametrize("urgent", [1, 200])
def test_of_many_ready_descriptors_the_urgent_ones_go_first(loop, urgent):
    """1. Order: the kernel hands ready descriptors out by 64, whatever their priority."""
    ran: list[str] = []
    with contextlib.ExitStack() as stack:

        def opened(source: Pipe) -> Pipe:
            stack.callback(source.close)
            return source

        others = [opened(Pipe()) for _ in range(250)]
        for pipe in others:
            os.write(pipe.writer, b"!")
            loop.add_reader(pipe.reader, ran.append, "other")
        sources = [opened(Pipe()) for _ in range(urgent)]
        for source in sources:

            def serve(source: Pipe = source) -> None:
                os.read(source.reader, 1)
                ran.append("urgent")
                if ran.count("urgent") == urgent:
                    loop.stop()

            source.on_readable = serve  # type: ignore[method-assign]
            loop.register(source)
            stack.callback(loop.unregister, source)

        def press() -> None:
            for source in sources:
                os.write(source.writer, b"!")
            ran.clear()

        loop.dispatcher.slice = 0.0  # look after each callback
        loop.call_later(0.005, press)
        loop.call_later(30, loop.stop)
        loop.run_forever()
        # One more for the callback that was under way, and one for each time that a rank has waited its turn.
        first = ran[: ran.index("urgent") + 1]
        last = len(ran) - ran[::-1].index("urgent")
        assert len(first) <= 4
        assert ran[:last].count("urgent") == urgent
        assert ran[:last].count("other") <= 4 + urgent // 4
    assert not loop._poller.descriptors.urgent.poll(0)


def test_urgent_readers_leave_their_set_when_they_are_replaced(loop):
    pipe = Pipe()
    os.write(pipe.writer, b"!")
    loop.register(pipe)
    urgent = loop._poller.descriptors.urgent
    assert urgent.poll(0) == [(pipe.reader, select.EPOLLIN)]
    loop.add_reader(pipe.reader, print)
    assert urgent.poll(0) == []
    loop.remove_reader(pipe.reader)
    loop.unregister(pipe)
    pipe.close()


def test_a_selector_that_is_no_selector_of_selectors_is_asked_as_asyncio_asks_it() -> None:
    class Public(selectors.BaseSelector):
        """A selector of a user's, which has nothing but the public methods."""

        def __init__(self) -> None:
            self._inner = selectors.PollSelector()

        def register(self, fileobj: Any, events: int, data: Any = None) -> Any:
            return self._inner.register(fileobj, events, data)

        def unregister(self, fileobj: Any) -> Any:
            return self._inner.unregister(fileobj)

        def modify(self, fileobj: Any, events: int, data: Any = None) -> Any:
            return self._inner.modify(fileobj, events, data)

        def select(self, timeout: float | None = None) -> Any:
            return self._inner.select(timeout)

        def get_map(self) -> Any:
            return self._inner.get_map()

        def close(self) -> None:
            self._inner.close()

    for seed in range(20):
        script = random_script(random.Random(seed))
        assert played(lambda: hwloop.EventLoop(Public()), script, 300) == played(
            lambda: asyncio.SelectorEventLoop(Public()), script, 300
        )
