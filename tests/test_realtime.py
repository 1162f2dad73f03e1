"""Real time: what the kernel grants is in force while the loop is open, refusals are logged, and all is undone."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import hwloop
from hwloop import RealTime
from hwloop.cli import main as command
from hwloop.core import realtime

ROOT = Path(__file__).parents[1]
ALL = os.sched_getaffinity(0)
NOBODY = 65534
ABSENT = 4095


def may_be_real_time() -> bool:
    """Tried in a thread that ends: without privileges SCHED_RESET_ON_FORK can't be taken back."""
    refused: list[OSError] = []

    def attempt() -> None:
        try:
            os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(1))
        except OSError as error:
            refused.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    return not refused


permitted = pytest.mark.skipif(
    os.geteuid() != 0 or not may_be_real_time(), reason="the kernel refuses this process a real-time class: needs root"
)


def state() -> dict[str, Any]:
    """Return the settings of the calling thread and of the process that real time changes."""
    return {
        "policy": os.sched_getscheduler(0),
        "priority": os.sched_getparam(0).sched_priority,
        "processors": os.sched_getaffinity(0),
        "locked": locked_kib() > 0,
    }


def locked_kib() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmLck:"))


async def look() -> tuple[dict[str, Any], realtime.Granted]:
    granted = asyncio.get_running_loop().statistics().realtime  # type: ignore[attr-defined]
    return state(), granted


@permitted
@pytest.mark.parametrize(("policy", "number"), [("fifo", os.SCHED_FIFO), ("rr", os.SCHED_RR)])
def test_a_granted_request_is_in_force_until_run_ends(policy: realtime.Policy, number: int) -> None:
    before = state()
    one = {min(ALL)}
    during, granted = hwloop.run(look(), realtime=RealTime(policy, 7, cpus=one))
    assert during == {"policy": number | os.SCHED_RESET_ON_FORK, "priority": 7, "processors": one, "locked": True}
    assert granted.scheduling == (f"SCHED_{policy.upper()}, priority 7", True, "", "")
    assert granted.memory == ("locked memory", True, "", "")
    assert granted.affinity == (f"processors {min(ALL)}", True, "", "")
    assert state() == before


@permitted
def test_it_is_undone_after_a_failure_too() -> None:
    before = state()

    async def fail() -> None:
        raise KeyError(state()["policy"])

    with pytest.raises(KeyError) as caught:
        hwloop.run(fail(), realtime=RealTime())
    assert caught.value.args == (os.SCHED_FIFO | os.SCHED_RESET_ON_FORK,)
    assert state() == before


@permitted
def test_threads_and_processes_that_it_starts_are_ordinary() -> None:
    async def main() -> list[int]:
        show = "import os; print(os.sched_getscheduler(0))"
        child = await asyncio.create_subprocess_exec(sys.executable, "-c", show, stdout=subprocess.PIPE)
        said, _ = await child.communicate()
        return [await asyncio.to_thread(os.sched_getscheduler, 0), int(said)]

    assert hwloop.run(main(), realtime=RealTime(lock_memory=False)) == [os.SCHED_OTHER] * 2


@permitted
def test_memory_stays_locked_until_the_last_user_has_ended() -> None:
    wish = RealTime()
    first, second = wish.apply(), wish.apply()
    second.undo()
    second.undo()  # harmless
    assert locked_kib() > 0
    first.undo()
    assert locked_kib() == 0


def test_a_refused_memory_lock_without_a_limit_names_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def refuse(name: str, *args: int) -> OSError:
        calls.append(name)
        return OSError(errno.EPERM, "")

    monkeypatch.setattr(realtime, "_call_c", refuse)  # what would refuse it, a filter of system calls, stays for good
    monkeypatch.setattr(realtime, "_may", lambda capability: True)
    applied = RealTime().apply()
    applied.undo()
    assert applied.granted.memory is not None
    assert not applied.granted.memory.granted
    assert applied.granted.memory.hint.startswith("no limit forbids it")
    assert calls == ["mlockall"]


@permitted
def test_it_is_undone_without_the_privileges_that_it_took() -> None:
    def work() -> None:  # in a thread: the flag stays
        applied = RealTime(lock_memory=False).apply()
        os.seteuid(NOBODY)
        try:
            applied.undo()
        finally:
            os.seteuid(0)
        found.append(os.sched_getscheduler(0))

    found: list[int] = []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [os.SCHED_OTHER | os.SCHED_RESET_ON_FORK]


@permitted
def test_another_wish_replaces_the_first() -> None:
    async def main() -> list[int]:
        loop: Any = asyncio.get_running_loop()
        seen = []
        for wish in (RealTime(priority=3, lock_memory=False), None):
            loop.set_realtime(wish)
            seen.append(os.sched_getparam(0).sched_priority)
        assert loop.statistics().realtime is None
        return seen

    assert hwloop.run(main(), realtime=RealTime(priority=2, cpus=ALL)) == [3, 0]


@permitted
def test_within_a_limit_what_is_allocated_later_is_not_locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the program would fail at some later allocation."""
    monkeypatch.setattr(realtime, "_may", lambda capability: False)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (1 << 20, 1 << 20))
    applied = RealTime().apply()
    try:
        before = locked_kib()
        block = bytearray(32 << 20)
        assert locked_kib() - before < 1 << 10
        del block
    finally:
        applied.undo()
    assert applied.granted.memory is not None
    asked, granted, said, hint = applied.granted.memory
    assert (asked, granted, said) == ("locked memory", True, "but not what is allocated later (the limit is 1024 KiB)")
    assert hint.startswith("LimitMEMLOCK=infinity in the unit")


def test_a_process_without_privileges_logs_a_remedy_and_goes_on(unmeasured: dict[str, str]) -> None:
    program = f"""
import asyncio, ctypes, os, resource, hwloop.core.realtime, hwloop.core.statistics
hwloop.run(asyncio.sleep(0))  # loads what a run needs, which this user may not be able to read soon
resource.setrlimit(resource.RLIMIT_RTPRIO, (0, 0))
resource.setrlimit(resource.RLIMIT_MEMLOCK, (4096, 4096))
if os.geteuid() == 0:
    os.setuid({NOBODY})
async def main():
    return asyncio.get_running_loop().statistics().realtime
granted = hwloop.run(main(), realtime=hwloop.RealTime(priority=60))
print(granted.scheduling.granted, granted.memory.granted, granted.affinity)
"""
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, env=unmeasured, capture_output=True, text=True, cwd=ROOT, timeout=20, check=True)
    assert ended.stdout == "False False None\n"
    assert ended.stderr == (
        "real time: SCHED_FIFO, priority 60: refused; operation not permitted; the limit is 0: LimitRTPRIO=60 in the "
        "unit, or 'USER - rtprio 60' in /etc/security/limits.conf | locked memory: refused; cannot allocate memory; "
        "LimitMEMLOCK=infinity in the unit, or 'USER - memlock unlimited' in /etc/security/limits.conf, now 4 KiB\n"
    )


def test_where_no_limit_forbids_it_the_unit_is_suspected(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*args: object) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (99, 99))
    _, granted = hwloop.run(look(), realtime=RealTime(lock_memory=False))
    assert not granted.scheduling.granted
    assert granted.scheduling.hint.startswith("no limit forbids it: RestrictRealtime= in the unit")
    assert [record.levelno for record in caplog.records if record.name == "hwloop"] == [logging.WARNING]


@pytest.mark.parametrize(
    ("cpus", "said", "hint"),
    [
        ({ABSENT}, "invalid argument", f"this process may use {', '.join(map(str, sorted(ALL)))}; see CPUAffinity="),
        ({ABSENT, min(ALL)}, f"only {min(ALL)} of them", "see CPUAffinity="),
    ],
)
def test_processors_that_are_not_there(cpus: set[int], said: str, hint: str) -> None:
    before = state()
    wish = RealTime(lock_memory=False, cpus=cpus)
    cpus.clear()  # the wish has its own
    applied = wish.apply()
    applied.undo()
    found = applied.granted.affinity
    assert found is not None
    assert (found.granted, found.said) == (False, said)
    assert found.hint.startswith(hint)
    assert state() == before


@pytest.mark.parametrize("name", ["SCHED_RESET_ON_FORK", "sched_getaffinity"])
def test_a_system_that_knows_nothing_of_it_refuses(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delattr(os, name)
    applied = RealTime(lock_memory=False, cpus=ALL).apply()
    applied.undo()
    refused = applied.granted.scheduling if name == "SCHED_RESET_ON_FORK" else applied.granted.affinity
    assert refused is not None
    assert not refused.granted
    assert refused.said.startswith("this system")


@permitted
def test_a_time_limit_of_such_threads_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (500_000, 500_000))
    applied = RealTime(lock_memory=False).apply()
    applied.undo()
    assert applied.granted.scheduling.said == "SIGXCPU comes after 500 ms without a wait (RLIMIT_RTTIME)"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"policy": "idle"}, ValueError, "'fifo' or 'rr', not 'idle'"),
        ({"priority": 0}, ValueError, "from 1 .* to 99, not 0"),
        ({"priority": 100}, ValueError, "not 100"),
        ({"priority": 1.5}, TypeError, "a whole number, not 1.5"),
        ({"priority": True}, TypeError, "not True"),
        ({"cpus": set()}, ValueError, "at least one"),
        ({"cpus": {-1}}, ValueError, "not -1"),
        ({"cpus": {10**9}}, ValueError, "from 0 to 4095"),
        ({"cpus": ["3"]}, TypeError, "whole numbers, not '3'"),
    ],
)
def test_an_invalid_request_raises(arguments: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RealTime(**arguments)


def test_without_a_wish_nothing_is_touched() -> None:
    before = state()
    during, granted = hwloop.run(look())
    assert granted is None
    assert during == before


def test_the_command_asks_for_it(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "asks.py"
    program.write_text(
        "import asyncio\nasync def main(): print(asyncio.get_running_loop().statistics().realtime.scheduling.asked)\n"
    )
    monkeypatch.setattr(sys, "argv", sys.argv[:])
    monkeypatch.setattr(sys, "path", sys.path[:])
    before = state()
    for arguments, asked in ([], "priority 50"), (["7"], "priority 7"):
        assert command(["run", str(program), "--board", "sim", "--realtime", *arguments]) == 0
        assert capsys.readouterr().out == f"SCHED_FIFO, {asked}\n"
    assert state() == before
    assert command(["run", "--realtime", str(program)]) == 2
    assert "a priority is 1 to 99, not" in capsys.readouterr().err
    sys.modules.pop("asks", None)
