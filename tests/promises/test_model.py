"""The ready queue and the timers against a reference, driven by Hypothesis.

The reference is a list that is searched anew whenever something runs. It knows what the promises say and nothing of
heaps, bands or batches: which of equals goes first, when the less urgent may overtake, how long each waits, which
timers are due. The stage's clock moves only as callbacks and waits say, in steps of 2**-20 s, so that sums of times are
exact.

Hypothesis draws scripts: what a callback does when it runs, which may be to schedule others with scripts.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import itertools
import math
import os

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

import hwloop
from hwloop import Priority
from hwloop.core.dispatch import SHORT_QUEUE, SLICE
from hwloop.core.priority_queues import AGEING
from hwloop.core.urgency import NORMAL, URGENCY, Urgency

TICK = 2.0**-20  # about a microsecond
RANKS = {Priority.INTERRUPT: 0, Priority.HIGH: 1, Priority.NORMAL: 2, Priority.LOW: 4, Priority.IDLE: 5}
ORDINARY, IDLE = 3, 5


class Failed(Exception):
    """Raised by callbacks."""


class Item:
    """Something that runs: a callback, a timer, a step of a task; or a source, which is queued again and again."""

    def __init__(self, name, urgency, script=()):
        self.name = name
        self.urgency = urgency  # what it hands on
        self.script = script
        self.rank = None  # not queued
        self.event = False  # found by a look, of the rank of ordinary work, but in a queue of its own
        self.deadline = math.inf
        self.order = 0
        self.when = 0.0
        self.handle = None
        self.task = None

    def __repr__(self):
        return f"{self.name} (rank {self.rank}, order {self.order}, deadline {self.deadline})"


class Reference:
    """The waiting items, and what the promises say of the item that runs."""

    def __init__(self):
        self.waiting = []
        self.order = 0  # of the last that came
        self.last_before_stop = 0
        self.passed = [0] * IDLE  # how many others have run since the rank last did, or began to wait
        self.overtaken = [0] * IDLE  # the same, but not counting when ordinary work ran with nothing else waiting
        self.row = 0  # ordinary callbacks in a row while an event waits
        self.ghosts = 0  # cancelled and moved ones that may still be queued, and have turns to waste

    def add(self, item, urgency, now, *, event=False, rank=None):
        item.rank = (ORDINARY if urgency == NORMAL else RANKS[urgency.priority]) if rank is None else rank
        item.event = event
        self.order += 1
        item.deadline, item.order = now + urgency.deadline, self.order
        self.waiting.append(item)

    def drop(self, item):
        self.waiting.remove(item)
        item.rank = None
        self.ghosts += 1

    def run(self, item, now, finishing):
        assert item in self.waiting, f"{item} ran twice, early, or though it was cancelled"
        equals = [one for one in self.waiting if (one.rank, one.event) == (item.rank, item.event)]
        if finishing:
            assert item.order <= self.last_before_stop, f"{item} came after stop() and ran"
            equals = [one for one in equals if one.order <= item.order]  # later ones need not be of the last batch
        first = min(equals, key=lambda one: (one.deadline if one.deadline >= now else math.inf, one.order))
        assert item is first, f"{item} ran before {first} at {now}"
        ranks = {one.rank for one in self.waiting}
        if item.rank == IDLE:
            assert ranks == {IDLE}, "IDLE work ran before what is more urgent"
            self.ghosts = 0
        elif not finishing:  # the last batch after stop() goes urgent first, then events, then ordinary work
            overtook = min(ranks) < item.rank
            assert not overtook or self.overtaken[item.rank] + self.ghosts >= AGEING, f"{item} ran too soon: {ranks}"
            contested = bool(ranks - {ORDINARY, IDLE})
            for rank in range(IDLE):
                others = rank in ranks and rank != item.rank
                self.passed[rank] = self.passed[rank] + 1 if others else 0
                assert self.passed[rank] < 2 * AGEING * (1 + self.ghosts), f"rank {rank} starves"
                if contested or rank == ORDINARY:
                    self.overtaken[rank] = self.overtaken[rank] + 1 if others else 0
            event_waits = any(one.event for one in self.waiting)
            self.row = self.row + 1 if event_waits and item.rank == ORDINARY and not item.event else 0
            assert self.row <= SHORT_QUEUE, "ordinary work holds up an event"
        self.waiting.remove(item)
        item.rank = None


class Source:
    """A pipe, readable once for each byte, with a script for each."""

    def __init__(self, machine, priority, deadline):
        self.priority = priority
        self.deadline = deadline
        self.machine = machine
        self.item = Item(f"source {priority.name}", NORMAL)
        self.scripts = collections.deque()
        self.reader, self.writer = os.pipe()

    def happen(self, script):
        self.scripts.append(script)
        os.write(self.writer, b"!")

    def fileno(self):
        return self.reader

    def on_readable(self):
        os.read(self.reader, 1)
        self.item.script = self.scripts.popleft()
        self.machine.run(self.item)

    def close(self):
        os.close(self.reader)
        os.close(self.writer)


# Parts of scripts; the names are those of the machine's methods below.
priorities = st.sampled_from(Priority)
deadlines = st.sampled_from([20 * TICK, 100 * TICK, 2000 * TICK])
ticks = st.sampled_from([1, 1, 2, 5, 10, 30, 60, 100, 1000, 2**20])
which = st.integers(0, 19)


def actions(scripts):
    return st.one_of(
        st.tuples(st.just("take"), ticks),
        st.tuples(st.just("soon"), scripts),
        st.tuples(st.just("urgent"), priorities, scripts),
        st.tuples(st.just("timer"), ticks | st.just(0), scripts),
        st.tuples(st.just("task"), priorities, deadlines | st.just(math.inf), st.lists(scripts, max_size=3)),
        st.tuples(st.just("cancel"), which),
        st.tuples(st.just("reschedule"), which, st.none() | priorities, st.none() | deadlines | st.just(math.inf)),
        st.tuples(st.just("happen"), which, scripts),
        st.tuples(st.just("threadsafe"), scripts),
        st.tuples(st.just("deadline"), ticks, priorities, scripts),
        st.tuples(st.just("tolerant"), ticks, ticks, scripts),
        st.just(("fail",)),
        st.just(("stop",)),
    )


scripts = st.recursive(
    st.just(()), lambda inner: st.lists(actions(inner), min_size=1, max_size=3).map(tuple), max_leaves=6
)


class Machine(RuleBasedStateMachine):
    """The stage beside the reference: both get the same actions."""

    def __init__(self, make_stage):
        super().__init__()
        self.loop = make_stage()
        self.loop._selector.looked = self.looked
        self.loop.set_exception_handler(self.note_failure)
        self.reference = Reference()
        self.current = Item("outside", NORMAL)
        self.names = itertools.count()
        self.looked_at = self.loop.clock
        self.stopped = self.ran_after_stop = False
        self.timers, self.inbox, self.tasks = [], [], []
        self.due = []  # ordinary timers that were due when they were set
        self.raised = self.failures = 0
        self.broken = None
        kinds = [(priority, None) for priority in Priority] + [(Priority.HIGH, 30 * TICK), (Priority.NORMAL, 1.0)]
        self.sources = [Source(self, *kind) for kind in kinds]
        for source in self.sources:
            self.loop.register(source)

    # Rules for Hypothesis.

    @rule(script=st.lists(actions(scripts), min_size=1, max_size=5))
    def act(self, script):
        for what, *arguments in script:
            getattr(self, f"do_{what}")(*arguments)

    @rule(count=st.integers(9, 20), priority=priorities, script=scripts)
    def crowd(self, count, priority, script):
        for number in range(count):
            self.do_urgent(priority, (("take", 1),) if number else script)

    @rule(jump=ticks | st.just(0))
    def play(self, jump):
        self.do_timer(jump, (("stop",),), lasting=True)
        self.play_until_stopped()

    @precondition(lambda self: not self.timers)
    @rule()
    def play_until_idle(self):
        self.do_urgent(Priority.IDLE, (("stop",),), lasting=True)
        self.play_until_stopped()

    def teardown(self):
        try:
            while self.broken is None and (
                self.reference.waiting or self.timers or self.due or self.inbox or self.unread()
            ):
                if all(item.handle is not None for item in self.timers + self.due):  # none is left that stops the loop
                    self.do_timer(2**22, (("stop",),), lasting=True)
                self.play_until_stopped()
            if self.broken is None:
                assert not self.tasks
                assert self.failures == self.raised
        finally:
            for task in self.tasks:
                task.task._log_destroy_pending = False  # cut off by what broke
            self.loop.close()

    def unread(self):
        return any(source.scripts for source in self.sources)

    # The loop's side.

    def play_until_stopped(self):
        self.reference.row = 0  # each run begins anew with the few that are ready
        self.loop.run_forever()
        if self.broken is not None:
            raise self.broken
        if self.ran_after_stop:
            self.reference.ghosts += AGEING  # items passed over in the last batch are counted otherwise
        self.stopped = self.ran_after_stop = False

    def note_failure(self, loop, context):
        assert isinstance(context["exception"], Failed), context
        self.failures += 1

    def looked(self, found):
        """Note the results of a poll: calls of other threads, readable sources, and then the timers that are due.

        Timers that were due when they were set come in between two batches, behind all that is queued. (Which look that
        is, the loop is asked here; that it is the right one is tested against asyncio in test_1_as_asyncio.py.)
        """
        self.take_inbox()
        if not self.loop._timers._overdue:
            for item in sorted(self.due, key=lambda item: item.when):
                self.reference.add(item, item.urgency, item.when)
            self.due.clear()
        now = self.looked_at = self.loop.clock
        for key, _ in found:
            source = next((source for source in self.sources if source.reader == key.fd), None)
            if source is not None and source.item.rank is None:
                urgency = Urgency(source.priority, math.inf if source.deadline is None else source.deadline)
                self.reference.add(source.item, urgency, now, event=urgency == NORMAL)
        due = [item for item in self.timers if item.when <= now]
        self.timers = [item for item in self.timers if item.when > now]
        for item in sorted(due, key=lambda item: item.when):
            self.reference.add(item, item.urgency, item.when, event=item.urgency == NORMAL)
        if self.stopped:  # before the run, which takes in what this look has found
            self.reference.last_before_stop = self.reference.order

    def take_inbox(self):
        for item in self.inbox:
            self.reference.add(item, item.urgency, self.loop.clock)
        self.inbox.clear()

    def run(self, item):
        """The callback of every item. The first wrong one ends the run, past the loop's exception handler."""
        if self.broken is not None:
            return
        try:
            assert self.stopped or self.loop.clock - self.looked_at < SLICE, "no look for more than a slice"
            self.ran_after_stop |= self.stopped
            self.reference.run(item, self.loop.clock, self.stopped)
        except AssertionError as error:
            self.broken = error
            self.loop.stop()
            return
        before, self.current = self.current, item
        try:
            for what, *arguments in item.script:
                getattr(self, f"do_{what}")(*arguments)
        finally:
            self.current = before

    async def steps(self, item, scripts):
        for script in [*scripts, ()]:
            item.script = script
            self.run(item)
            if self.broken is not None:
                return
            self.take_inbox()
            self.reference.add(item, item.urgency, self.loop.clock)
            await asyncio.sleep(0)
        self.run(item)
        self.tasks.remove(item)

    # The actions of scripts: on the loop, and then on the reference.

    def do_take(self, count):
        self.loop.clock += count * TICK

    def do_soon(self, script):
        item = self.item("soon", self.current.urgency, script)
        item.handle = self.loop.call_soon(self.run, item)
        self.ready(item)

    def do_threadsafe(self, script):
        item = self.item("threadsafe", self.current.urgency, script)
        item.handle = self.loop.call_soon_threadsafe(self.run, item)
        self.inbox.append(item)

    def do_urgent(self, priority, script, lasting=False):
        item = self.item(priority.name, self.current.urgency._replace(priority=priority), script)
        handle = self.loop.call_soon_priority(priority, self.run, item)
        item.handle = None if lasting else handle
        self.ready(item)

    def do_deadline(self, count, priority, script):
        item = self.item("deadline", self.current.urgency, script)
        item.handle = self.loop.call_deadline(self.loop.clock + count * TICK, self.run, item, priority=priority)
        self.reference.add(item, Urgency(priority, count * TICK), self.loop.clock, rank=RANKS[priority])

    def do_timer(self, count, script, lasting=False):
        item = self.item("timer", self.current.urgency, script)
        item.when = self.loop.clock + count * TICK
        handle = self.loop.call_later(count * TICK, self.run, item)
        item.handle = None if lasting else handle
        if count or item.urgency != NORMAL:
            self.timers.append(item)
        else:
            self.due.append(item)

    def do_tolerant(self, count, tolerance, script):
        item = self.item("tolerant", self.current.urgency, script)
        item.when = self.loop.clock + (count + 0.5) * TICK  # at the same time as no exact one
        item.handle = self.loop.call_tolerant(item.when, self.run, item, tolerance=tolerance * TICK)
        self.timers.append(item)

    def do_task(self, priority, deadline, scripts):
        urgency = Urgency(priority, deadline)
        context = contextvars.copy_context()
        context.run(URGENCY.set, urgency)
        self.loop.urgency.enable()
        item = self.item("task", urgency, ())
        item.task = self.loop.create_task(self.steps(item, scripts), context=context)
        self.tasks.append(item)
        self.ready(item)

    def do_reschedule(self, number, priority, deadline):
        if not (self.tasks and self.loop.is_running()) or priority is deadline is None:
            return
        item = self.tasks[number % len(self.tasks)]
        before = item.urgency
        item.urgency = Urgency(
            before.priority if priority is None else priority, before.deadline if deadline is None else deadline
        )
        hwloop.reschedule(item.task, priority=priority, deadline=deadline)
        if item.rank is not None and (item.urgency != before or before.deadline < math.inf):
            self.reference.drop(item)
            self.reference.add(item, item.urgency, self.loop.clock)

    def do_cancel(self, number):
        queues = (self.reference.waiting, self.timers, self.due, self.inbox)
        items = [item for queue in queues for item in queue if item.handle is not None]
        if not items:
            return
        item = items[number % len(items)]
        item.handle.cancel()
        item.handle.cancel()  # once more does no harm
        if item in self.reference.waiting:
            self.reference.drop(item)
        else:
            next(queue for queue in queues if item in queue).remove(item)
            self.reference.ghosts += 1

    def do_happen(self, number, script):
        self.sources[number % len(self.sources)].happen(script)

    def do_fail(self):
        if self.current.handle is not None:  # a source would be closed, a task end
            self.raised += 1
            raise Failed

    def do_stop(self):
        if not self.stopped:
            self.reference.last_before_stop = self.reference.order
        self.stopped = True
        self.loop.stop()

    def item(self, kind, urgency, script):
        return Item(f"{kind} {next(self.names)}", urgency, script)

    def ready(self, item):
        self.take_inbox()
        self.reference.add(item, item.urgency, self.loop.clock)


def test_whatever_a_program_does_the_loop_keeps_to_the_reference(stage):
    run_state_machine_as_test(
        lambda: Machine(type(stage)),
        settings=settings(
            max_examples=120,
            stateful_step_count=15,
            derandomize=True,
            database=None,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
