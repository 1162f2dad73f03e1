"""anyio, unchanged: task groups, cancel scopes, streams, threads, sockets and processes on its asyncio backend."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import hwloop

anyio = pytest.importorskip("anyio", reason="pip install anyio")

Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_a_task_group_hands_items_from_task_to_task(run: Run) -> None:
    async def main() -> list[int]:
        send, receive = anyio.create_memory_object_stream[int](2)

        async def produce() -> None:
            async with send:
                for number in range(10):
                    await send.send(number)

        async with anyio.create_task_group() as group, receive:
            group.start_soon(produce)
            return [number async for number in receive]

    assert run(main()) == list(range(10))


def test_a_failure_cancels_the_rest_of_the_group(run: Run) -> None:
    async def main() -> bool:
        cancelled = False

        async def sleeper() -> None:
            nonlocal cancelled
            try:
                await anyio.sleep_forever()
            except anyio.get_cancelled_exc_class():
                cancelled = True
                raise

        async def failing() -> None:
            raise LookupError("gone")

        async def both() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(sleeper)
                await anyio.sleep(0)
                group.start_soon(failing)

        with pytest.raises(ExceptionGroup) as caught:
            await both()
        assert caught.group_contains(LookupError, match="gone")
        return cancelled

    assert run(main())


def test_a_cancel_scope_ends_at_its_deadline_and_a_shield_holds(run: Run) -> None:
    async def main() -> list[str]:
        steps = []
        with anyio.move_on_after(0.01) as scope:
            try:
                await anyio.sleep(10)
            finally:
                with anyio.CancelScope(shield=True):
                    await anyio.sleep(0.001)
                    steps.append("cleaned up")
            steps.append("not reached")
        assert scope.cancelled_caught
        with pytest.raises(TimeoutError), anyio.fail_after(0.001):
            await anyio.sleep(10)
        return steps

    assert run(main()) == ["cleaned up"]


def test_threads_are_called_and_call_back(run: Run) -> None:
    async def main() -> list[str]:
        heard = []

        async def hear(word: str) -> None:
            heard.append(word)

        def work() -> str:
            anyio.from_thread.run(hear, "from the thread")
            return "result"

        heard.append(await anyio.to_thread.run_sync(work))
        return heard

    assert run(main()) == ["from the thread", "result"]


def test_a_tcp_server_answers_its_clients(run: Run) -> None:
    async def serve(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.send((await stream.receive()).upper())

    async def main() -> list[bytes]:
        answers = []
        async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
            port = listener.extra(anyio.abc.SocketAttribute.local_port)

            async def ask(text: bytes) -> None:
                async with await anyio.connect_tcp("127.0.0.1", port) as stream:
                    await stream.send(text)
                    answers.append(await stream.receive())

            async with anyio.create_task_group() as group:
                group.start_soon(listener.serve, serve)
                async with anyio.create_task_group() as clients:
                    for text in (b"a", b"b", b"c"):
                        clients.start_soon(ask, text)
                group.cancel_scope.cancel()
        return sorted(answers)

    assert run(main()) == [b"A", b"B", b"C"]


def test_a_process_is_run_and_its_output_read(run: Run) -> None:
    async def main() -> Any:
        return await anyio.run_process([sys.executable, "-c", "print(input())"], input=b"through a pipe\n")

    result = run(main())
    assert result.returncode == 0
    assert result.stdout == b"through a pipe\n"


def test_anyio_run_takes_the_loop_as_a_backend_option() -> None:
    async def main() -> type[object]:
        return type(asyncio.get_running_loop())

    options = {"loop_factory": hwloop.new_event_loop}
    assert anyio.run(main, backend="asyncio", backend_options=options) is hwloop.EventLoop
