"""Messages to systemd: every message here goes to a real datagram socket, as systemd's own would."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import hwloop
from hwloop import Priority, service
from hwloop.service import lifecycle, messages, systemd

Run = Callable[[Coroutine[Any, Any, Any]], Any]


class Manager:
    """The service manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(address)

    def close(self) -> None:
        self._socket.close()

    def heard(self) -> list[str]:
        """The messages since the last call."""
        messages = []
        while True:
            try:
                messages.append(self._socket.recv(4096).decode())
            except BlockingIOError:
                return messages

    async def hears(self, wanted: str) -> None:
        """Wait until `wanted` arrives."""
        loop = asyncio.get_running_loop()
        while (await loop.sock_recv(self._socket, 4096)).decode() != wanted:
            pass


@pytest.fixture(autouse=True)
def no_service(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(messages, "_undelivered", 0)
    monkeypatch.setattr(systemd, "_malformed", None)
    monkeypatch.setattr(lifecycle, "_state", lifecycle.State())
    monkeypatch.setattr(messages, "_shown", type(messages._shown)())


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    path = str(tmp_path / "notify")
    manager = Manager(path)
    monkeypatch.setenv("NOTIFY_SOCKET", path)
    yield manager
    manager.close()


def want_feeding(monkeypatch: pytest.MonkeyPatch, milliseconds: int) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", str(milliseconds * 1000))
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))


def test_a_message_reaches_the_manager(manager: Manager) -> None:
    assert service.notify("READY=1\nSTATUS=Watching")
    assert manager.heard() == ["READY=1\nSTATUS=Watching"]


def test_a_message_reaches_an_abstract_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"hwloop-test-{os.getpid()}"
    manager = Manager(f"\0{name}")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}")
    assert service.notify("READY=1")
    assert manager.heard() == ["READY=1"]
    manager.close()


def test_a_status_is_one_line_and_cannot_say_anything_else(manager: Manager) -> None:
    service.status("door open\nSTOPPING=1")
    assert manager.heard() == ["STATUS=door open STOPPING=1"]


def test_without_a_manager_nothing_is_sent_counted_or_logged(
    manager: Manager, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET")
    want_feeding(monkeypatch, 3)

    async def main() -> float:
        async with service.supervised():
            await asyncio.sleep(0.01)
        return service.Watchdog().interval

    assert run(main()) == 0
    assert not service.notify("READY=1")
    assert manager.heard() == []
    assert service.undelivered() == 0
    assert not caplog.records


def test_a_socket_that_has_gone_is_counted_and_reported_once(
    tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    want_feeding(monkeypatch, 1000)

    async def main() -> str:
        async with service.supervised():
            return "went on"

    assert run(main()) == "went on"
    assert service.undelivered() == 3
    assert len(caplog.records) == 1
    assert "could not send READY=1: No such file or directory" in caplog.text


def test_a_manager_with_no_room_left_does_not_block_the_program(manager: Manager) -> None:
    while service.notify("STATUS=" + 1000 * "x"):
        pass
    assert service.undelivered() == 1


@pytest.mark.parametrize("address", ["", "relative/path", "/" + 200 * "x", "vsock:2:1234"])
def test_an_address_that_leads_nowhere_is_no_failure(monkeypatch: pytest.MonkeyPatch, address: str) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not service.notify("READY=1")


def test_a_service_says_ready_feeds_and_says_stopping(
    manager: Manager, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    want_feeding(monkeypatch, 3)

    async def main() -> None:
        async with service.supervised():
            await manager.hears("READY=1")
            for _ in range(5):
                await manager.hears("WATCHDOG=1")
        await asyncio.sleep(0.005)

    run(main())
    heard = manager.heard()
    assert heard[-1] == "STOPPING=1"
    assert set(heard[:-1]) <= {"WATCHDOG=1"}


def test_a_service_that_fails_says_stopping_too(manager: Manager, run: Run) -> None:
    async def main() -> None:
        async with service.supervised():
            raise LookupError("gone")

    with pytest.raises(LookupError):
        run(main())
    assert manager.heard() == ["READY=1", "STOPPING=1"]


def test_the_watchdog_is_fed_in_less_than_half_of_its_time(
    manager: Manager, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    want_feeding(monkeypatch, 30_000)

    async def main() -> float:
        return service.Watchdog().interval

    assert 0 < run(main()) < 15


def test_a_blocked_loop_does_not_feed_and_one_that_runs_again_does(
    manager: Manager, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    want_feeding(monkeypatch, 15)

    async def main() -> list[str]:
        async with service.supervised():
            await manager.hears("WATCHDOG=1")
            manager.heard()
            time.sleep(0.03)
            while_blocked = manager.heard()
            await manager.hears("WATCHDOG=1")
            return while_blocked

    assert run(main()) == []


def test_another_process_s_watchdog_is_not_fed(manager: Manager, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    want_feeding(monkeypatch, 3)
    monkeypatch.setenv("WATCHDOG_PID", str(os.getppid()))

    async def main() -> None:
        async with service.supervised():
            await asyncio.sleep(0.01)

    run(main())
    assert manager.heard() == ["READY=1", "STOPPING=1"]


def test_a_watchdog_without_a_process_id_is_fed(manager: Manager, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    want_feeding(monkeypatch, 3)
    monkeypatch.delenv("WATCHDOG_PID")

    async def main() -> None:
        async with service.supervised():
            await manager.hears("WATCHDOG=1")

    run(main())


@pytest.mark.parametrize("value", ["soon", "-5", "1.5", ""])
def test_a_timeout_that_is_no_number_is_reported_and_not_fed(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, value: str
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", value)
    assert service.watchdog_timeout() == 0
    assert "the watchdog is not fed" in caplog.text


def test_the_watchdog_is_ordinary_work_whatever_the_urgency_of_the_task_that_started_it(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    want_feeding(monkeypatch, 3)

    async def main() -> None:
        with hwloop.scheduled(priority=Priority.IDLE):
            watchdog = service.Watchdog()
            watchdog.start()
        loop = asyncio.get_running_loop()
        busy = True

        def work() -> None:
            if busy:
                loop.call_soon(work)

        work()
        manager.heard()
        # Ordinary work is always ready, so what runs only when idle would never come.
        await asyncio.wait_for(manager.hears("WATCHDOG=1"), 5)
        busy = False
        watchdog.stop()

    with asyncio.Runner(loop_factory=hwloop.new_event_loop) as runner:
        runner.run(main())


# The environment and the program may hold, and that is no reason to fail.


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("door\nREADY=1\r\nopen\u2028now", "door READY=1 open now"),
        ("half a pair: \ud83d", "half a pair: ?"),
        ("nothing\0here", "nothing here"),
        ("21.5 °C 🌡", "21.5 °C 🌡"),
        ("x" * 100_000, "x" * 999 + "…"),
        ("🌡" * 5000, "🌡" * 999 + "…"),
    ],
)
def test_any_string_is_a_status(manager: Manager, text: str, shown: str) -> None:
    assert service.status(text)
    assert manager.heard() == ["STATUS=" + shown]


@pytest.mark.parametrize(
    "state",
    ["", "\n", "X=\ud800", "READY=1\0", "X=" + "y" * 1_000_000],
    ids=["empty", "line end", "surrogate", "NUL", "a million characters"],
)
@pytest.mark.parametrize("address", ["/nowhere/notify", "relative", "@", "vsock:2:1234", "x" * 200, "/tmp/\udcff"])
def test_no_message_and_no_address_fails_the_program(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, address: str, state: str
) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not service.notify(state)
    assert service.undelivered() == 1
    caplog.text.encode()  # as a stream of the log does


@pytest.mark.parametrize(
    "given", ["x", "", "-1", "+5", "1.5", "1e6", " 5", "٣", "9" * 5000, str(2**64), "0x10", "\udcff", "5\n"]
)
def test_a_malformed_timeout_never_fails_a_program(
    manager: Manager, run: Run, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    async def main() -> None:
        async with service.supervised():
            await asyncio.sleep(0)

    monkeypatch.setenv("WATCHDOG_USEC", given)
    run(main())
    hwloop.run(main())
    assert set(manager.heard()) == {"READY=1", "STOPPING=1"}


def test_a_malformed_timeout_is_reported_once(
    manager: Manager, run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with service.supervised():
            await asyncio.sleep(0)

    monkeypatch.setenv("WATCHDOG_USEC", "x")
    hwloop.run(main())
    hwloop.run(main())
    assert caplog.text.count("WATCHDOG_USEC='x'") == 1


@pytest.mark.parametrize("listening", [True, False])
def test_anything_but_text_is_rejected_as_a_service_and_elsewhere(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, listening: bool
) -> None:
    if not listening:
        monkeypatch.delenv("NOTIFY_SOCKET")
    wrong: Any
    for wrong in (None, 1, object):
        with pytest.raises(TypeError, match=r"notify\(\) takes text"):
            service.notify(wrong)
    assert service.notify(b"STATUS=caf\xc3\xa9") is listening
    assert manager.heard() == (["STATUS=café"] if listening else [])


@pytest.mark.parametrize(("given", "interval"), [(0, 0), (1, 0.001), (2**64 - 1, 0), (3 * 2**62, 2**62 / 1e6)])
def test_the_ends_of_the_range_are_heeded(
    manager: Manager, run: Run, monkeypatch: pytest.MonkeyPatch, given: int, interval: float
) -> None:
    async def main() -> float:
        watchdog = service.Watchdog()
        watchdog.start()
        await asyncio.sleep(0)
        watchdog.stop()
        return watchdog.interval

    monkeypatch.setenv("WATCHDOG_USEC", str(given))
    assert run(main()) == interval


@pytest.mark.parametrize("given", ["x", "-1", "1", "\udcff"])
def test_a_process_that_is_not_meant_says_nothing_by_itself(
    manager: Manager, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    want_feeding(monkeypatch, 100)
    monkeypatch.setenv("WATCHDOG_PID", given)
    hwloop.run(asyncio.sleep(0.01))
    assert manager.heard() == []


# A program's own run.


def test_a_run_is_ready_once_it_waits_and_is_fed_until_it_ends(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[str]:
        before = manager.heard()
        await manager.hears("READY=1")
        for _ in range(3):
            await manager.hears("WATCHDOG=1")
        return before

    want_feeding(monkeypatch, 60)
    assert hwloop.run(main()) == []
    manager.heard()
    time.sleep(0.05)
    assert manager.heard() == []


def test_a_run_that_fails_at_once_was_never_ready(manager: Manager) -> None:
    async def main() -> None:
        raise KeyError("pump")

    with pytest.raises(KeyError):
        hwloop.run(main())
    assert manager.heard() == []


def test_several_loops_are_fed_for_only_while_each_comes_round(
    manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        here = asyncio.get_running_loop()
        other = asyncio.new_event_loop()
        mine, others = service.Watchdog(here), service.Watchdog(other)
        mine.start()
        others.start()
        manager.heard()
        for _ in range(3):
            mine._feed()
        assert manager.heard() == ["WATCHDOG=1"]  # for the first round; the other loop stands since
        others._feed()
        mine._feed()
        assert len(manager.heard()) == 1
        others.stop()
        mine._feed()
        assert len(manager.heard()) == 1
        mine.stop()
        other.close()

    want_feeding(monkeypatch, 100_000)
    asyncio.run(main())
