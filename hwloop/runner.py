"""Entry points of a program: `run()`, a factory for `asyncio.Runner`, and a policy for Pythons that have policies.

However a program starts its run, the result is the same: it uses the board in use, the clock of its host (`hwloop run`)
if there is one, and notifies the service manager once.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import functools
import inspect
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from hwloop.core import clock as clocks
from hwloop.core import registry as running
from hwloop.core.clock import Clock
from hwloop.core.event_loop import EventLoop
from hwloop.core.gc_schedule import GcMode
from hwloop.core.naming import short_name
from hwloop.errors import shorten_tracebacks
from hwloop.output_reports import OutputReporter, find_reporter_with

if TYPE_CHECKING:
    from hwloop import board as boards
    from hwloop.core.realtime import RealTime
    from hwloop.recording import Recorder
    from hwloop.virtual.clock import VirtualClock

T = TypeVar("T")

logger: logging.Logger = logging.getLogger("hwloop")


class Hosting:
    """The way to make the loops of a program that a host starts: `hwloop run`."""

    def __init__(
        self,
        make_loop: Callable[[Literal["random"] | int | None, float | None], EventLoop],
        clock: Clock = clocks.REAL,
        *,
        grace: float | None = None,
    ) -> None:
        """Parameters:
        make_loop: makes a loop; in virtual time with the seed and the limit of the program, if any.
        clock: the clock of these loops.
        grace: seconds that a run has to end, where the program gives none; None for no bound.
        """
        self.make_loop: Callable[[Literal["random"] | int | None, float | None], EventLoop] = make_loop
        self.clock: Clock = clock
        self.grace: float | None = grace


_hosting: Hosting | None = None


def new_event_loop() -> EventLoop:
    """Make a loop: `asyncio.Runner(loop_factory=hwloop.new_event_loop)`. Under `hwloop run`, its options apply."""
    return EventLoop() if _hosting is None else _hosting.make_loop(None, None)


@contextlib.contextmanager
def hosting_runs(hosting: Hosting) -> Iterator[None]:
    """Use hwloop's loop for every run that the program starts in this block, also through asyncio.

    This covers `asyncio.run`, `asyncio.Runner`, `asyncio.new_event_loop`, `asyncio.get_event_loop`, and libraries that
    use them. A loop class that the program chooses is left alone, except for asyncio's default class as the factory of
    a Runner in the main thread, which uvicorn passes.
    """
    global _hosting
    before, _hosting = _hosting, hosting
    init, close = asyncio.Runner.__init__, asyncio.Runner.close
    usual = (asyncio.SelectorEventLoop, getattr(asyncio, "EventLoop", None))

    @functools.wraps(init)
    def init_hosted(
        runner: asyncio.Runner,
        *,
        debug: bool | None = None,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        if loop_factory in usual and threading.current_thread() is threading.main_thread():
            loop_factory = new_event_loop
        init(runner, debug=debug, loop_factory=loop_factory)

    @functools.wraps(close)
    def close_hosted(runner: asyncio.Runner) -> None:
        if hosting.grace is None:
            close(runner)
            return
        from hwloop.service.grace import bounded

        with bounded(getattr(runner, "_loop", None), hosting.grace, real_time=hosting.clock is clocks.REAL):
            close(runner)

    asyncio.Runner.__init__ = init_hosted  # type: ignore[method-assign,assignment]
    asyncio.Runner.close = close_hosted  # type: ignore[method-assign,assignment]
    with _quiet_policies():
        policy = asyncio.get_event_loop_policy()
        from hwloop.runner import EventLoopPolicy  # created on first use, see below

        asyncio.set_event_loop_policy(EventLoopPolicy())
    try:
        yield
    finally:
        _hosting = before
        asyncio.Runner.__init__ = init  # type: ignore[method-assign]
        asyncio.Runner.close = close  # type: ignore[method-assign]
        with _quiet_policies():
            asyncio.set_event_loop_policy(policy)


@contextlib.contextmanager
def _quiet_policies() -> Iterator[None]:
    """Ignore that policies are deprecated from Python 3.14 on: asyncio still asks them for its loops."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def run(
    main: Coroutine[Any, Any, T],
    *,
    board: boards.Board | boards.Choice | None = None,
    backend: boards.Backend | None = None,
    debug: bool | None = None,
    clock: Literal["real", "virtual"] | VirtualClock = "real",
    seed: int | Literal["random"] | None = None,
    limit: float | None = None,
    gc: GcMode = "auto",
    spin: float = 0.0,
    realtime: RealTime | None = None,
    recorder: Recorder | str | os.PathLike[str] | None = None,
    grace: float | None = None,
) -> T:
    """Run a coroutine on a new hwloop loop and return its result, as `asyncio.run` does.

    `board` is the board for the sources: a `Board`, "linux", "sim", a board file, or a mapping with the content of one.
    A board that is opened here is closed at the end. Without `board`, the board in use applies: that of `hwloop run
    --board` or `hwloop.board.using`, or else the board of the process, which HWLOOP_BOARD names or the machine has.
    `backend` is the library for the GPIO lines of a real board: "gpiod", "lgpio" or "auto"; by default HWLOOP_GPIO
    decides, or else the installed packages.

    With `clock="virtual"` time jumps from event to event, and `seed` chooses among the orders that asyncio leaves open
    (see `SimLoop`). A run that has not ended after `limit` virtual seconds fails; by default HWLOOP_LIMIT decides. A
    wait that can never end always fails. The board is a simulated one on the same clock; a board made beforehand needs
    its own `VirtualClock`, which is passed here too.

    `gc` and `spin` are for programs in which microseconds count: see `EventLoop.schedule_gc` and `EventLoop.set_spin`.
    With `realtime`, the thread runs in real time during the run, as far as the system permits: see `RealTime`.

    `recorder` keeps the last events of the board in a ring file that survives SIGKILL: its path, "PATH,SIZE" such as
    "flight.ring,16M", or a `recording.Recorder`, which the caller closes. Raises `recording.RecordingError` if the file
    can't be used.

    `grace` bounds the end of the run, in seconds of the loop's time: tasks that have not ended so long after `main` has
    ended are named in the log with the line at which they wait, and abandoned. SIGINT and SIGTERM then cancel `main`,
    which has the same time, and KeyboardInterrupt comes out of the run; a second signal forces the end
    (docs/service.md). By default HWLOOP_GRACE decides under `hwloop run`, and elsewhere there is no bound.
    """
    if not asyncio.iscoroutine(main):
        hint = f"; call it: hwloop.run({main.__name__}())" if inspect.iscoroutinefunction(main) else ""
        raise ValueError(f"a coroutine was expected, got {short_name(main)}{hint}")
    from hwloop import board as boards  # late: programs without a board don't import it

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        pass
    else:
        main.close()
        raise RuntimeError("hwloop.run() cannot be called from a running event loop; use 'await' there")
    try:
        if grace is not None:
            from hwloop.service.grace import checked_grace  # late: few programs give one

            grace = checked_grace(grace)
        factory: Callable[[], EventLoop] = new_event_loop
        hosting = _hosting
        time = clocks.REAL if hosting is None else hosting.clock
        if time is not clocks.REAL and clock in ("real", "virtual"):
            assert hosting is not None
            factory = functools.partial(hosting.make_loop, seed, limit)
        elif clock != "real" or seed is not None or limit is not None:
            factory, time = _virtual_loops(clock, seed, board, limit)
        with (
            _recording(recorder) as opened,
            boards.using(board, clock=time, backend=backend, opened=opened),
            _outputs_ended(),
            _ended_within(grace, time, asyncio.Runner(debug=debug, loop_factory=factory), main) as runner,
        ):
            loop: Any = runner.get_loop()
            loop.schedule_gc(gc)
            loop.set_spin(spin)
            if realtime is not None or hosting is None:
                loop.set_realtime(realtime)
            with _notifying(loop):
                try:
                    return runner.run(main)
                except BaseException as error:
                    if not loop.get_debug():
                        shorten_tracebacks(error)
                    raise
    finally:
        main.close()  # if it never began; harmless after a run


@contextlib.contextmanager
def _ended_within(
    grace: float | None, clock: Clock, runner: asyncio.Runner, main: Coroutine[Any, Any, Any]
) -> Iterator[asyncio.Runner]:
    """Close the runner at the end of this block, and bound that by the grace of the program or of its host."""
    hosting = _hosting
    if grace is None or hosting is not None:
        before = None if hosting is None else hosting.grace
        try:
            with runner:
                if hosting is not None and grace is not None:
                    hosting.grace = grace
                yield runner
        finally:
            if hosting is not None:
                hosting.grace = before
        return
    from hwloop.service.grace import GraceOver, Signals, bounded

    loop, real_time = runner.get_loop(), clock is clocks.REAL
    with Signals(loop, main, grace, real_time=real_time) as signals:
        try:
            yield runner
        except (asyncio.CancelledError, GraceOver):
            if signals.received:
                raise KeyboardInterrupt from None
            raise
        finally:
            left = 0.0 if signals.forced else grace
            with bounded(loop, left, real_time=real_time, reports=not signals.forced):
                runner.close()


@contextlib.contextmanager
def _recording(
    recorder: Recorder | str | os.PathLike[str] | None,
) -> Iterator[Callable[[boards.Board], object] | None]:
    """Yield the function that records a board; None without a recorder. Close a recorder that is opened here."""
    if recorder is None:
        yield None
        return
    from hwloop.recording import Recorder, open_ring

    if isinstance(recorder, Recorder):
        yield recorder.attach
        return
    if not isinstance(recorder, str | os.PathLike):
        raise TypeError(
            f"recorder must be a path, 'PATH,SIZE' or a hwloop.recording.Recorder, not {short_name(recorder)}"
        )
    ours = Recorder(open_ring(os.fspath(recorder)), program=sys.argv[0], arguments=sys.argv[1:])
    ours.status = "1"
    try:
        yield ours.attach
        ours.status = "0"
    except KeyboardInterrupt:
        ours.status = "SIGINT"
        raise
    finally:
        ours.close()


def _virtual_loops(
    clock: object, seed: int | Literal["random"] | None, board: object, limit: float | None
) -> tuple[Callable[[], EventLoop], VirtualClock]:
    """Return a factory of loops in virtual time, and the clock of loop and board.

    Raises ValueError if the arguments contradict each other.
    """
    from hwloop.board import Board
    from hwloop.virtual.clock import VirtualClock
    from hwloop.virtual.loop import SimLoop

    if clock == "real":
        if seed is None:
            raise ValueError("a limit needs clock='virtual': real time can't be limited; use asyncio.timeout()")
        raise ValueError("a seed needs clock='virtual': in real time orders can't be repeated")
    time = VirtualClock() if clock == "virtual" else clock
    if not isinstance(time, VirtualClock):
        raise ValueError(f"clock must be 'real', 'virtual' or a hwloop.VirtualClock, not {clock!r}")
    if isinstance(board, Board) and board.clock is not time:
        raise ValueError(
            f"{board.label} is not on the clock of this run: with clock = hwloop.VirtualClock() make it as "
            "SimBoard(..., clock=clock) and call run(..., clock=clock)"
        )
    return lambda: SimLoop(seed, limit=limit, clock=time), time


@contextlib.contextmanager
def _notifying(loop: EventLoop) -> Iterator[None]:
    """Notify systemd for the loop, if systemd listens and `hwloop run` does not do so."""
    if running.supervisor is not None or "NOTIFY_SOCKET" not in os.environ:
        yield
        return
    from hwloop.service import lifecycle
    from hwloop.service.systemd import LoopNotifier

    atexit.unregister(lifecycle.ended)  # the program may have several runs
    atexit.register(lifecycle.ended)
    notifier = LoopNotifier(loop)
    running.follow(notifier)
    try:
        yield
    finally:
        running.unfollow(notifier)


@contextlib.contextmanager
def _outputs_ended() -> Iterator[None]:
    """Close the outputs that this block leaves open, which sets them to their safe level: their loop has ended.

    On a board that the program has made they stay open as long as the board, for the next run. Outputs of a run in
    another thread are left to that run.
    """
    from hwloop import board as boards

    if boards.made_by_program():
        yield
        return
    opened = _open_outputs()
    try:
        yield
    finally:
        for output in _open_outputs():
            if output not in opened and not output.opened_elsewhere:
                try:
                    output.close()
                except Exception:
                    logger.exception("%s could not be left at its safe level", short_name(output))


def _guard_reporter() -> OutputReporter | None:
    """Return the reporter of this process to its guardian, loaded where the environment names one."""
    if not any(name.startswith("HWLOOP_GUARD_") for name in os.environ):
        return None
    from hwloop.service import guard

    return guard.reporter()


find_reporter_with(_guard_reporter)


def _open_outputs() -> list[Any]:
    module = sys.modules.get("hwloop.sources.gpio.open_outputs")
    return [] if module is None else list(module.listed)


if TYPE_CHECKING:

    class EventLoopPolicy(asyncio.DefaultEventLoopPolicy):
        """asyncio's default policy with hwloop's loop."""

else:

    def __getattr__(name: str) -> Any:
        """Create `EventLoopPolicy` on first use: policies are deprecated from Python 3.14 and gone in 3.16."""
        if name != "EventLoopPolicy":
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        base = getattr(asyncio, "DefaultEventLoopPolicy", None)
        if base is None:
            raise AttributeError("event loop policies are gone from this Python; use hwloop.run() or a loop_factory")

        class EventLoopPolicy(base):
            """asyncio's default policy with hwloop's loop."""

            _loop_factory = staticmethod(new_event_loop)

        EventLoopPolicy.__qualname__ = name
        globals()[name] = EventLoopPolicy
        return EventLoopPolicy
