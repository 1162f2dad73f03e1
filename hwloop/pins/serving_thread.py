"""`ServingThread`: the thread that serves a factory's lines while no loop of the program runs.

The thread runs an asyncio loop, so coroutine handlers, timers and the delivery of edges work the same with and without
a loop of the program. The thread ends only when it is stopped: `sys.exit()` in a handler ends only that handler, as
in a plain gpiozero script.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading

from hwloop.pins.last_wait import wait_for_end

_LONGEST_HANDLER = 10.0  # seconds that `stop()` waits for a running handler, as gpiozero does


class ServingThread:
    """A daemon thread with a running loop.

    Raises `RuntimeError` or `OSError` if the thread or its loop can't start: Python 3.12 and later start no thread once
    the program has ended.
    """

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop
        self._stopping = False
        self._failure: BaseException | None = None
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hwloop pins", daemon=True)
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            # asyncio's own loop, which does not count as a loop of the program.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                self.loop = runner.get_loop()
                self.loop.slow_callback_duration = float("inf")  # handlers may be slow here, in debug mode too
                self.loop.call_soon(self._started.set)
                while not self._stopping:
                    with contextlib.suppress(SystemExit, KeyboardInterrupt):  # raised by a task that a handler started
                        self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            pass  # raised by a task that was cancelled at the end
        except BaseException as error:
            self._failure = error
            if self._started.is_set():
                raise
        finally:
            self._started.set()

    def is_current(self) -> bool:
        """Return whether the caller runs in this thread."""
        return self._thread is threading.current_thread()

    def stop(self) -> None:
        """End the thread: now, or after the current callback if the caller runs in this thread.

        A handler that still runs is waited for as gpiozero does, and as `wait_for_end` says.
        """
        self._stopping = True
        with contextlib.suppress(RuntimeError):  # the loop is closed
            self.loop.call_soon_threadsafe(self.loop.stop)
        if not self.is_current():
            wait_for_end("a handler of gpiozero", self._thread, self._has_ended, _LONGEST_HANDLER)

    def _has_ended(self, within: float) -> bool:
        self._thread.join(within)
        return not self._thread.is_alive()
