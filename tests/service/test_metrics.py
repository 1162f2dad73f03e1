"""Metrics for Prometheus: their names and values, the file and the server, and that no request holds up the loop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY, Counter
from prometheus_client.parser import text_string_to_metric_families

import hwloop
from hwloop import Priority, gpio, i2c, serial, service
from hwloop.cli import main
from hwloop.service import metric_file, metric_server, metrics
from hwloop.service.metric_errors import TargetInUseError
from hwloop.service.metric_target import opener
from hwloop.service.metrics import exported

ROOT = Path(__file__).parents[2]
BOARD = {"device": [{"type": "bme280"}, {"type": "gps", "port": "/dev/ttyAMA0"}]}


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metric_file, "FIRST_AFTER", 0.001)
    monkeypatch.setattr(metric_file, "EVERY", 0.001)
    monkeypatch.setattr(metrics, "SHORTEST_INTERVAL", 0.0)


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "door.prom")


def values(text: str) -> dict[str, dict[tuple[tuple[str, str], ...], float]]:
    """Return the samples of a text by name and labels, without the label `program`."""
    found: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = {name: value for name, value in sample.labels.items() if name != "program"}
            key = tuple(sorted(labels.items()))
            assert key not in found.setdefault(sample.name, {}), f"{sample.name}{key} is there twice"
            found[sample.name][key] = sample.value
    return found


class Collector:
    """A program's own, as prometheus_client takes it."""

    def __init__(self, collect: Callable[[], Any]) -> None:
        self.collect = collect
        self.describe = list[Any]


def source(name: str) -> tuple[tuple[str, str], ...]:
    return (("source", name),)


async def request(open_connection: Any, path: str = "/metrics", method: str = "GET") -> tuple[str, str]:
    """Return head and body of an answer."""
    reader, writer = await open_connection
    writer.write(f"{method} {path} HTTP/1.0\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    head, _, body = answer.partition("\r\n\r\n")
    return head, body


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


# The metrics.


def test_every_metric_keeps_to_prometheus_conventions_and_the_counts_are_those_of_statistics(path: str) -> None:
    texts: list[str] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.measure_tasks()  # type: ignore[attr-defined]
        loop.watch_slices(1e-9)  # type: ignore[attr-defined]
        loop.schedule_gc("idle")  # type: ignore[attr-defined]
        async with (
            gpio.watch(17, pull="up", queue_size=1) as door,
            gpio.watch(5, name="gpio:17"),
            gpio.output(27),
            gpio.output(22),
            i2c.open(1) as bus,
            serial.open("/dev/ttyAMA0", framing=serial.Lines(), reopen=hwloop.Backoff(60, 1, 60)) as gps,
        ):
            door.count_lost(3)
            gps.fail(OSError("unplugged"))
            await bus.device(0x76).read_register(0xD0)
            loop.call_deadline(1e-9, lambda: None)  # type: ignore[attr-defined]
            service.critical(door, within=1000, name="door")
            await asyncio.sleep(0.001)
            texts.append(await asyncio.to_thread(lambda: exporter.text()[0].decode()))

    with exported(path, program="door") as exporter:
        hwloop.run(main(), board=BOARD)
    for family in text_string_to_metric_families(texts[0]):
        if family.name.startswith(("python", "process")):
            continue
        assert re.fullmatch(r"hwloop_[a-z0-9_]+", family.name)
        assert family.documentation.endswith((".", "sixteenth."))
        assert family.type in ("counter", "gauge", "histogram")
        assert all(sample.labels["program"] == "door" for sample in family.samples)
        if family.type == "counter":
            assert all(sample.name.endswith("_total") for sample in family.samples)
        assert "milli" not in family.name
    found = values(texts[0])
    assert found["hwloop_source_events_lost_total"][source("gpio:17")] == 3
    assert found["hwloop_source_events_lost_total"][source("gpio:17 #2")] == 0
    assert found["hwloop_source_events_received_total"][source("i2c:1")] == 1
    assert found["hwloop_source_open"][source("/dev/ttyAMA0")] == 0
    assert found["hwloop_source_outages_total"][source("/dev/ttyAMA0")] == 1
    assert found["hwloop_source_reconnects_total"][source("/dev/ttyAMA0")] == 0
    assert found["hwloop_source_suspect"] == {source("i2c:1"): 0}
    assert found["hwloop_outputs_open"] == {(): 2}
    assert found["hwloop_critical_overdue"] == {(("subject", "door"),): 0}
    chip = (("address", "0x76"), ("source", "i2c:1"))
    assert found["hwloop_i2c_transfers_total"] == {chip: 1}
    assert found["hwloop_i2c_errors_total"] == {chip: 0}
    assert found["hwloop_i2c_longest_transfer_seconds"][chip] > 0
    assert found["hwloop_loop_running"] == {(): 1}
    assert sum(found["hwloop_deadline_misses_total"].values()) == 1
    assert found["hwloop_task_steps_total"]
    assert found["hwloop_slow_callbacks_total"]
    assert sorted(found["hwloop_gc_collections_total"]) == [(("generation", str(each)),) for each in range(3)]
    for histogram in ("hwloop_loop_timer_lateness_seconds", "hwloop_loop_io_latency_seconds"):
        buckets = [
            count for _, count in sorted(found[f"{histogram}_bucket"].items(), key=lambda it: float(it[0][0][1]))
        ]
        assert buckets == sorted(buckets)
        assert buckets[-1] == found[f"{histogram}_count"][()] > 0
        assert found[f"{histogram}_sum"][()] >= 0
    assert ("hwloop_source_details_total", "lost_kernel") in {
        (name, dict(labels).get("detail")) for name, rows in found.items() for labels in rows
    }


def test_without_a_loop_the_text_says_so(path: str) -> None:
    with exported(path) as exporter:
        found = values(exporter.text()[0].decode())
    assert found["hwloop_loop_running"] == {(): 0}
    assert "hwloop_loop_timers" not in found


def test_metrics_of_the_program_are_there_and_those_of_the_process_only_where_they_collide_with_nobodys(
    path: str, tmp_path: Path, caplog: Any
) -> None:
    counter = Counter("door_openings", "How often the door was opened.")
    counter.inc(3)
    broken = Collector(lambda: 1 / 0)
    try:
        for target, has_process in ((path, False), (f"unix:{tmp_path}/x.sock", True)):
            with exported(target) as exporter:
                found = values(exporter.text()[0].decode())
            assert found["door_openings_total"] == {(): 3}
            assert ("process_open_fds" in found) == has_process
        REGISTRY.register(broken)
        with exported(path) as exporter:
            for _ in range(2):
                assert "hwloop_loop_running" in values(exporter.text()[0].decode())
        assert [record.getMessage() for record in caplog.records] == [
            "metrics of the program can't be read: ZeroDivisionError: division by zero (reported once)"
        ]
    finally:
        REGISTRY.unregister(counter)
        with contextlib.suppress(KeyError):
            REGISTRY.unregister(broken)


# Requests and the loop.


def test_requests_are_answered_on_a_unix_socket_and_an_address(tmp_path: Path) -> None:
    async def ask(connect: Callable[[], Any]) -> None:
        head, body = await request(connect())
        assert head.startswith("HTTP/1.0 200 ")
        assert "text/plain" in head
        assert values(body)["hwloop_loop_running"] == {(): 1}
        head, body = await request(connect(), method="HEAD")
        assert (head.startswith("HTTP/1.0 200 "), body) == (True, "")
        head, body = await request(connect(), "/favicon.ico")
        assert head.startswith("HTTP/1.0 404 ")
        assert "the metrics are at /metrics" in body

    unix = f"{tmp_path}/door.sock"
    with exported(f"unix:{unix}"):
        hwloop.run(ask(lambda: asyncio.open_unix_connection(unix)))
        assert os.stat(unix).st_mode & 0o777 == 0o666
    assert not os.path.exists(unix)
    for host in ("127.0.0.1", "[::1]", "localhost"):
        with exported(f"{host}:0") as exporter:
            address = exporter._target.address  # type: ignore[attr-defined]
            hwloop.run(ask(lambda address=address: asyncio.open_connection(*address[:2])))


def test_no_request_holds_up_the_loop(tmp_path: Path, monkeypatch: Any) -> None:
    """Neither many, nor clients that say nothing or never read, nor a metric of the program that blocks."""
    monkeypatch.setattr(metrics, "SHORTEST_INTERVAL", 0.5)
    path = f"{tmp_path}/door.sock"
    released = threading.Event()
    collected: list[int] = []
    asked: list[int] = []
    collect = metrics.figures.collect
    monkeypatch.setattr(
        metrics.figures, "collect", lambda loop: collected.append(threading.get_ident()) or collect(loop)
    )

    def blocks() -> Iterator[Any]:
        asked.append(threading.get_ident())
        released.wait(30)
        yield from ()

    async def main() -> None:
        began = time.monotonic()
        for _ in range(10):
            head, _ = await request(asyncio.open_unix_connection(path))
            assert head.startswith("HTTP/1.0 200")
        assert set(collected) == {threading.get_ident()}
        assert 1 <= len(collected) <= 1 + (time.monotonic() - began) / 0.5
        clients = [socket.socket(socket.AF_UNIX) for _ in range(20)]
        for number, client in enumerate(clients):
            client.connect(path)
            if number == 0:
                REGISTRY.register(stuck)
                client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
                await until(lambda: asked)
        ticks = 0
        async for _ in hwloop.every(0.001):  # while requests hang in their threads
            ticks += 1
            if ticks == 100:
                break
        assert asked[0] != threading.get_ident()
        threads = [each for each in threading.enumerate() if each.name == "metrics request"]
        assert 1 <= len(threads) <= metric_server.AT_A_TIME
        for client in clients:
            client.close()
        released.set()
        REGISTRY.unregister(stuck)
        await until(lambda: not [each for each in threading.enumerate() if each.name == "metrics request"])
        head, _ = await request(asyncio.open_unix_connection(path))
        assert head.startswith("HTTP/1.0 200")

    stuck = Collector(blocks)
    with exported(f"unix:{path}"):
        hwloop.run(main())


def test_the_text_is_made_in_pieces_between_which_the_loop_gets_the_interpreter(path: str, monkeypatch: Any) -> None:
    with exported(path) as exporter:
        pauses: list[tuple[int, float]] = []  # with the thread: another one writes the file
        note = lambda seconds: pauses.append((threading.get_ident(), seconds))  # noqa: E731
        monkeypatch.setattr(metrics, "time", SimpleNamespace(sleep=note, monotonic=time.monotonic))
        families = list(exporter.collect())
    assert pauses.count((threading.get_ident(), 0)) == len(families)


def test_a_blocked_loop_is_reported_by_its_lag_and_the_age_of_its_figures(path: str, monkeypatch: Any) -> None:
    monkeypatch.setattr(metrics, "LONGEST_WAIT", 0.02)
    blocked, released = threading.Event(), threading.Event()

    async def main() -> None:
        await asyncio.to_thread(exporter.text)
        asyncio.get_running_loop().call_soon(lambda: blocked.set() or released.wait(30))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.to_thread(lambda: None)

    with exported(path) as exporter:
        thread = threading.Thread(target=lambda: hwloop.run(main()))
        thread.start()
        assert blocked.wait(30)
        for _ in range(2):
            found = values(exporter.text()[0].decode())
            assert found["hwloop_loop_lag_seconds"][()] >= 0.02
            assert found["hwloop_loop_running"] == {(): 1}
            assert "hwloop_loop_timers" in found  # the figures from before
        assert values(exporter.text()[0].decode())["hwloop_figures_age_seconds"][()] > 0
        released.set()
        thread.join()
        assert values(exporter.text()[0].decode())["hwloop_loop_running"] == {(): 0}


def test_the_figures_are_collected_as_ordinary_work(path: str) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        waiting = asyncio.create_task(asyncio.to_thread(exporter.text))
        with hwloop.scheduled(priority=Priority.IDLE):
            loop.call_soon(lambda: None)
        body, _ = await waiting
        assert values(body.decode())["hwloop_loop_running"] == {(): 1}

    with exported(path) as exporter:
        hwloop.run(main())


# The file.


def test_the_file_is_whole_whenever_it_is_read_and_gone_at_the_end(path: str) -> None:
    async def main() -> None:
        versions = set()
        while len(versions) < 5:
            with contextlib.suppress(FileNotFoundError), open(path) as file:
                versions.add(os.fstat(file.fileno()).st_mtime_ns)
                text = file.read()
                assert text.endswith("\n")
                assert "hwloop_loop_running" in values(text)
                assert os.stat(path).st_mode & 0o777 == 0o644
            await asyncio.sleep(0.001)

    before = os.umask(0o077)
    try:
        with exported(path):
            hwloop.run(main())
    finally:
        os.umask(before)
    assert os.listdir(os.path.dirname(path)) == []


def test_a_path_that_disappears_is_reported_once_and_written_again_when_it_is_back(tmp_path: Path, caplog: Any) -> None:
    directory = tmp_path / "metrics"
    directory.mkdir()

    def reports() -> list[str]:
        return [record.getMessage() for record in caplog.records]

    async def main() -> None:
        path = directory / "door.prom"
        await until(path.exists)
        for count in (1, 3):
            for each in directory.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    each.unlink()
            with contextlib.suppress(OSError):
                directory.rename(tmp_path / f"gone{count}")
            await until(lambda count=count: len(reports()) == count)
            await asyncio.sleep(0.01)
            assert len(reports()) == count
            directory.mkdir()
            await until(path.exists)
            await until(lambda count=count: len(reports()) == count + 1)

    with exported(str(directory / "door.prom")):
        hwloop.run(main())
    assert "No such file or directory; tried again every" in reports()[0]
    assert reports()[1].endswith("is written again")


def test_a_file_that_another_program_has_replaced_is_left_alone(path: str, caplog: Any) -> None:
    async def main() -> None:
        await until(lambda: os.path.exists(path))
        other = f"{path}.other"
        for _ in range(500):  # it may have been about to replace the other one
            if caplog.records:
                break
            Path(other).write_text("theirs 1\n")
            os.replace(other, path)
            await asyncio.sleep(0.01)
        assert Path(path).read_text() == "theirs 1\n"

    with exported(path):
        hwloop.run(main())
    assert Path(path).read_text() == "theirs 1\n"
    assert "another program has replaced it; give each program a file of its own" in caplog.text


def ended(target: metrics.Target) -> None:
    """End a target that has nothing to show."""
    serving = threading.Thread(target=target.serve, args=(lambda accept: (b"", ""),))
    serving.start()
    target.end()
    serving.join()


def test_two_programs_can_not_listen_on_one_socket_and_the_socket_of_a_killed_one_is_replaced(tmp_path: Path) -> None:
    path = f"{tmp_path}/door.sock"
    with exported(f"unix:{path}"), pytest.raises(TargetInUseError, match="another program listens on unix:"):
        opener(f"unix:{path}")()
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(path)
    ended(opener(f"unix:{path}")())
    assert not os.path.exists(path)


def test_two_programs_can_not_write_one_file_and_a_child_does_not_end_its_parents(tmp_path: Path) -> None:
    """The second program fails at its start; after the first one was killed, a start removes its file."""
    path = tmp_path / "door.prom"
    program = tmp_path / "door.py"
    program.write_text(
        "import asyncio, os, sys\n"
        "async def main():\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        sys.exit()\n"
        "    os.waitpid(child, 0)\n"
        f"    while not os.path.exists({str(path)!r}):\n"
        "        await asyncio.sleep(0.001)\n"
        "    print('ready', flush=True)\n"
        "    await asyncio.to_thread(sys.stdin.read)\n"
    )
    code = "import hwloop.cli, hwloop.service.metric_file as f; f.FIRST_AFTER = 0.001; hwloop.cli.script()"
    with subprocess.Popen(
        [sys.executable, "-c", code, "run", str(program), "--metrics", str(path)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "ready\n"
        with pytest.raises(TargetInUseError, match="another program writes"):
            opener(str(path))()
        first.kill()
    assert path.exists()
    taken = opener(str(path))()
    assert not path.exists()
    ended(taken)


# Wrong targets.


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("door.txt", "metrics go to a file that ends in .prom, to unix:/run/x.sock, or to an address such as"),
        ("9101", "metrics go to a file"),
        (":9101", "metrics go to a file"),
        ("/nowhere/door.prom", "can't write /nowhere/door.prom: No such file or directory; the directory must exist"),
        ("{tmp}/taken.prom", "taken.prom is not an ordinary file; choose another path"),
        ("unix:/nowhere/door.sock", "can't listen on unix:/nowhere/door.sock: No such file or directory"),
        ("unix:{tmp}/plain", "plain exists and is not a socket; choose another path"),
        ("unix:/" + "x" * 200, "AF_UNIX path too long"),
        ("example.com:9101", "'example.com' is not an IP address; write 127.0.0.1:9101"),
        ("127.0.0.1:99999", "a port is at most 65535"),
        ("192.0.2.1:9101", "can't listen on 192.0.2.1:9101: Cannot assign requested address"),
    ],
)
def test_a_wrong_target_is_a_wrong_call(tmp_path: Path, capsys: Any, target: str, message: str) -> None:
    (tmp_path / "plain").write_text("")
    os.mkfifo(tmp_path / "taken.prom")
    program = tmp_path / "door.py"
    program.write_text("async def main(): pass")
    assert main(["run", str(program), "--metrics", target.format(tmp=tmp_path)]) == 2
    assert message in capsys.readouterr().err


def test_an_address_in_use_is_a_failure_that_a_restart_may_mend(tmp_path: Path, capsys: Any) -> None:
    program = tmp_path / "door.py"
    program.write_text("async def main(): pass")
    with socket.create_server(("127.0.0.1", 0)) as other:
        address = f"127.0.0.1:{other.getsockname()[1]}"
        assert main(["run", str(program), "--metrics", address]) == 1
    assert f"can't listen on {address}: Address already in use; choose another port" in capsys.readouterr().err


def test_other_computers_are_served_where_the_address_says_so_and_the_log_has_a_warning(caplog: Any) -> None:
    for host, warned in (("127.0.0.1", False), ("0.0.0.0", True)):
        caplog.clear()
        with exported(f"{host}:0"):
            pass
        assert bool([record for record in caplog.records if record.levelno == logging.WARNING]) == warned


def test_a_missing_package_is_named_with_the_way_to_install_it(tmp_path: Path, capsys: Any, monkeypatch: Any) -> None:
    program = tmp_path / "door.py"
    program.write_text("async def main(): pass")
    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    monkeypatch.delitem(sys.modules, "hwloop.service.metrics")
    assert main(["run", str(program), "--metrics", f"{tmp_path}/x.prom"]) == 2
    assert "metrics need the package prometheus_client: pip install prometheus_client" in capsys.readouterr().err
    assert main(["run", str(program), "--metrics", "x.text"]) == 2
    assert "metrics go to a file that ends in .prom" in capsys.readouterr().err


def test_the_environment_names_a_target_which_child_processes_do_not_inherit(
    path: str, tmp_path: Path, monkeypatch: Any, capsys: Any
) -> None:
    program = tmp_path / "door.py"
    program.write_text(
        "import asyncio, os\n"
        "async def main():\n"
        "    assert 'HWLOOP_METRICS' not in os.environ\n"
        f"    while not os.path.exists({path!r}):\n"
        "        await asyncio.sleep(0.001)\n"
        f"    with open({path!r}) as file:\n"
        "        print('program=\"door\"' in file.read())\n"
    )
    monkeypatch.setenv("HWLOOP_METRICS", path)
    assert main(["run", str(program)]) == 0
    assert capsys.readouterr().out == "True\n"
    assert not os.path.exists(path)


def test_virtual_time_has_no_metrics(path: str, tmp_path: Path, capsys: Any) -> None:
    program = tmp_path / "door.py"
    program.write_text("async def main(): pass")
    assert main(["run", str(program), "--clock", "virtual", "--metrics", path]) == 2
    assert "--metrics is for real time" in capsys.readouterr().err
