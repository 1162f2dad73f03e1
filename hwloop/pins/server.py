"""The thread that serves a factory's lines while no loop of the program does.

It has an asyncio loop of its own, so that coroutine handlers, timers and the delivery of edges are the same with and
without a loop of the program's. It ends when it is stopped and never before: `sys.exit()` in a handler ends that
handler, as it ends no more than the thread in a plain gpiozero script.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading

_LONGEST_HANDLER = 10.0  # seconds for which a handler under way is waited for at the end, as gpiozero does


class ServingThread:
    """A daemon thread with a running loop. Raises RuntimeError or OSError where it can't be had.

    Python 3.12 and later start no thread once the program has ended.
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
            # asyncio's own loop: nobody follows it.
            with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
                self.loop = runner.get_loop()
                self.loop.slow_callback_duration = float("inf")  # a handler may take its time here, in debug mode too
                self.loop.call_soon(self._started.set)
                while not self._stopping:
                    with contextlib.suppress(SystemExit, KeyboardInterrupt):  # of a task that a handler started
                        self.loop.run_forever()
        except (SystemExit, KeyboardInterrupt):
            pass  # of a task that was cancelled at the end
        except BaseException as error:
            self._failure = error
            if self._started.is_set():
                raise
        finally:
            self._started.set()

    def is_current(self) -> bool:
        """Whether the caller runs in this thread."""
        return self._thread is threading.current_thread()

    def stop(self) -> None:
        """End it: now where this is another thread, else when what runs in it has come to its end."""
        self._stopping = True
        with contextlib.suppress(RuntimeError):  # it has ended
            self.loop.call_soon_threadsafe(self.loop.stop)
        if not self.is_current():
            self._thread.join(_LONGEST_HANDLER)
