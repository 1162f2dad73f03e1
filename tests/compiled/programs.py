"""Random programs for the fuzzer, and smaller ones of the same kind: see player.py for what they consist of."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

Action = list[Any]
Program = dict[str, Any]

CALLBACKS = ["plain"] * 12 + [
    "partial", "object", "class", "c", "gc", "stop", "clear", "again", "close", "once", "handle", "run", "coroutine",
    "none", "text", "object", "int",
]  # fmt: skip
TIMES = [0, 1, 2, 5, 10, 30, 60, 100, 1000, 100_000] * 3 + [
    "none", "nan", "inf", "-inf", "text", "true", "huge", "-huge", "1e300", "fraction", "decimal", "list", "complex",
    "float", "object", "-1",
]  # fmt: skip
FDS = list(range(8)) * 4 + ["none", "text", "huge", "big", "-1", "true", "float", "object", "list"]
EXCEPTIONS = [
    "value", "value", "keyboard", "exit", "cancelled", "stop", "generator", "odd", "repr", "group", "memory",
    "recursion",
]  # fmt: skip
STEPS = ["sleep", "sleep", "future", "wait", "gather", "checkpoint", "connect", "connect", "receive", "raise"]
PRIORITIES = [0, 1, 2, 3, 4]
METHODS = [
    "call_soon", "call_later", "call_at", "call_soon_threadsafe", "call_soon_priority", "call_deadline",
    "call_tolerant", "call_every", "add_reader", "remove_reader", "register", "unregister", "stop", "set_debug",
]  # fmt: skip
SETTINGS = [
    ("set_spin", [0.0, 1e-4, "nan", "none", "text"]),
    ("schedule_gc", ["idle", "off", "auto", "text"]),
    ("watch_slices", [1e-5, 1e-3, "none", "nan", "text"]),
    ("measure_tasks", [True, False]),
    ("set_task_factory", ["none", "int"]),
    ("set_exception_handler", ["none", "int"]),
]
TRANSPORT = [
    ["write", 10], ["write", 10], ["write", 0], ["write", 500_000], ["writelines", []], ["write_eof"], ["close"],
    ["abort"], ["pause_reading"], ["resume_reading"], ["is_reading"], ["is_closing"], ["get_write_buffer_size"],
    ["odd", "text"], ["odd", "none"], ["set_write_buffer_limits", 100], ["set_protocol", []],
]  # fmt: skip


class Writer:
    """Writes programs."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._writers = {name.removeprefix("_make_"): getattr(self, name) for name in dir(self) if "_make_" in name}
        # Each program has a taste of its own, so that rare things meet more often.
        self._weights = [self._random.choice((0, 1, 1, 4)) for _ in self._writers]

    def program(self) -> Program:
        pick = self._random
        actions = [] if pick.random() < 0.8 else [["set_debug", True]]
        actions += [["pipe"], ["socket"]] if pick.random() < 0.5 else []
        for _ in range(pick.randrange(1, 12)):
            actions += self._script(0) or [["soon", "plain", []]]
            if pick.random() < 0.6:
                actions.append(["run", pick.choice([1, 30, 100, 1000, 10_000])])
        if pick.random() < 0.3:
            actions.insert(pick.randrange(len(actions)), ["close"])
        program: Program = {"stage": pick.random() < 0.75, "actions": [*actions, ["run", 1000]]}
        if not program["stage"]:
            program["gc"] = pick.choice([[700, 10, 10], [10, 2, 2], [1, 1, 1]])
        return program

    def _script(self, depth: int) -> list[Action]:
        pick = self._random
        if depth > 3 or pick.random() < 0.3:
            return []
        names = list(self._writers)
        return [
            self._action(pick.choices(names, self._weights)[0], depth + 1)
            for _ in range(pick.choice((1, 1, 2, 3, 3, 6) if depth < 2 else (1, 1, 2)))
        ]

    def _action(self, name: str, depth: int) -> Action:
        return [name, *self._writers[name](depth)]

    def _callback(self, depth: int) -> list[Any]:
        return [self._random.choice(CALLBACKS), self._script(depth)]

    def _time(self) -> Any:
        return self._random.choice(TIMES)

    def _number(self) -> int:
        return self._random.randrange(20)

    def _priority(self) -> int:
        return self._random.choice(PRIORITIES)

    def _steps(self, depth: int) -> list[Any]:
        pick = self._random
        few = [0, 1, 10, 100]
        return [[pick.choice(STEPS), pick.choice(few), self._script(depth)] for _ in range(pick.randrange(4))]

    # The arguments of each action.

    def _make_take(self, depth: int) -> list[Any]:
        return [self._random.choice([1, 10, 60, 1000, 100_000])]

    def _make_raise(self, depth: int) -> list[Any]:
        return [self._random.choice(EXCEPTIONS)] if depth > 1 else ["value"]

    def _make_soon(self, depth: int) -> list[Any]:
        return [*self._callback(depth), self._random.choice(["", "", "", "own", "object", "int"])]

    def _make_threadsafe(self, depth: int) -> list[Any]:
        return self._callback(depth)

    def _make_later(self, depth: int) -> list[Any]:
        return [self._time(), *self._callback(depth)]

    _make_at = _make_later

    def _make_urgent(self, depth: int) -> list[Any]:
        return [self._random.choice([*PRIORITIES * 3, "int", "text", "none", "huge"]), *self._callback(depth)]

    def _make_deadline(self, depth: int) -> list[Any]:
        return [self._time(), self._priority(), *self._callback(depth)]

    def _make_tolerant(self, depth: int) -> list[Any]:
        return [self._time(), self._time(), *self._callback(depth)]

    def _make_every(self, depth: int) -> list[Any]:
        return [self._time(), self._random.randrange(5), self._script(depth)]

    def _make_arguments(self, depth: int) -> list[Any]:
        return [self._random.choice(METHODS), self._random.randrange(5)]

    def _make_cancel(self, depth: int) -> list[Any]:
        return [self._number()]

    _make_look = _make_run_handle = _make_copy = _make_happen = _make_unregister = _make_cancel
    _make_make_ready = _make_close_fd = _make_cancel

    def _make_odd_handle(self, depth: int) -> list[Any]:
        return [self._script(depth), self._random.choice(["odd", "asyncio"])]

    def _make_weak(self, depth: int) -> list[Any]:
        return [self._number(), self._script(depth)]

    def _make_drop(self, depth: int) -> list[Any]:
        return [self._random.choice(["handles", "kept", "futures"])]

    def _make_finalized(self, depth: int) -> list[Any]:
        return [self._script(depth)]

    _make_signal = _make_fork = _make_deadline_handler = _make_finalized

    def _make_collect(self, depth: int) -> list[Any]:
        return []

    _make_pipe = _make_socket = _make_future = _make_stop = _make_close = _make_new = _make_collect
    _make_kill = _make_interrupt = _make_collect

    def _make_queues(self, depth: int) -> list[Any]:
        return [self._random.choice(["clear", "rotate", "iterate", "timers", "no timers", "pop"])]

    def _make_watch(self, depth: int) -> list[Any]:
        return [self._random.choice(["reader", "writer"]), self._random.choice(FDS), *self._callback(depth)]

    def _make_unwatch(self, depth: int) -> list[Any]:
        return [self._random.choice(["reader", "writer"]), self._random.choice(FDS)]

    def _make_source(self, depth: int) -> list[Any]:
        return [self._priority(), self._random.choice([None, None, 30, 1000, "nan", "text"]), self._script(depth)]

    def _make_transport(self, depth: int) -> list[Any]:
        return [self._number(), *self._random.choice(TRANSPORT)]

    def _make_peer(self, depth: int) -> list[Any]:
        return [self._number(), self._random.choice(["send", "send", "flood", "receive", "shutdown", "close"])]

    def _make_settle(self, depth: int) -> list[Any]:
        return [self._number(), self._random.choice(["result", "exception", "cancel", "ask"])]

    def _make_then(self, depth: int) -> list[Any]:
        return [self._number(), self._script(depth)]

    def _make_task(self, depth: int) -> list[Any]:
        return [self._random.choice([None, None, *PRIORITIES]), self._steps(depth)]

    def _make_reschedule(self, depth: int) -> list[Any]:
        return [self._number(), self._random.choice([None, *PRIORITIES]), self._random.choice([None, self._time()])]

    def _make_set_debug(self, depth: int) -> list[Any]:
        return [self._random.random() < 0.5]

    def _make_set(self, depth: int) -> list[Any]:
        what, values = self._random.choice(SETTINGS)
        return [what, self._random.choice(values)]

    def _make_handler(self, depth: int) -> list[Any]:
        return [self._random.choice(["own", "plain"]), self._script(depth)]

    def _make_clock(self, depth: int) -> list[Any]:
        return [self._random.choice(["restore", "moving", "still"])]

    def _make_ask(self, depth: int) -> list[Any]:
        return [self._random.choice(["statistics", "repr", "tasks", "time", "is_running", "is_closed", "get_debug"])]

    def _make_run(self, depth: int) -> list[Any]:
        return [self._random.choice([1, 100, 10_000])]

    def _make_complete(self, depth: int) -> list[Any]:
        return [self._steps(depth)]


def smaller(program: Program) -> Iterator[Program]:
    """Yield programs with something left out, the larger parts first."""
    for actions in _smaller_scripts(program["actions"]):
        yield {**program, "actions": actions}
    if "gc" in program:
        yield {name: value for name, value in program.items() if name != "gc"}


def _smaller_scripts(script: list[Any]) -> Iterator[list[Any]]:
    size = len(script) // 2
    while size:
        for start in range(0, len(script), size):
            yield script[:start] + script[start + size :]
        size //= 2
    if len(script) == 1:
        yield []
    for place, action in enumerate(script):
        for part, value in enumerate(action):
            if isinstance(value, list):
                for less in _smaller_scripts(value):
                    yield [*script[:place], [*action[:part], less, *action[part + 1 :]], *script[place + 1 :]]
