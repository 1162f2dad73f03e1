"""The programs that have a serial port open, as far as this program may see them: for the message that it is busy.

Three files of proc(5) show them. /proc/locks has the process that has locked the port with flock(2), whoever owns it.
The links in /proc/PID/fd have all others, but are readable for processes of the same user and for root only.
/proc/PID/stat has the terminal of a login, which is the login console of a Pi.
"""

from __future__ import annotations

import os
from collections.abc import Iterator


def holders(path: str) -> list[str]:
    """Return the programs that hold the port at `path`, each as "minicom (process 1234)"; empty if none can be seen."""
    try:
        port = os.stat(path)
    except OSError:
        return []
    pids = set(_locking(port)) or {*_having_open(port), *_logged_in(port)}
    return [_name(pid) for pid in sorted(pids)]


def _locking(port: os.stat_result) -> Iterator[int]:
    """Yield the processes with a lock of flock(2) on the port."""
    place = f"{os.major(port.st_dev):02x}:{os.minor(port.st_dev):02x}:{port.st_ino}"
    for line in _text("/proc/locks").splitlines():
        fields = line.split()
        # "1: FLOCK  ADVISORY  WRITE 708 00:13:36 0 EOF"; "->" marks one that waits, 0 a process of another container.
        if len(fields) > 5 and fields[1] == "FLOCK" and fields[5] == place and int(fields[4]) > 0:
            yield int(fields[4])


def _having_open(port: os.stat_result) -> Iterator[int]:
    for pid in _processes():
        try:
            descriptors = os.scandir(f"/proc/{pid}/fd")
        except OSError:
            continue
        with descriptors:
            for descriptor in descriptors:
                try:
                    found = descriptor.stat()
                except OSError:
                    continue
                if found.st_rdev == port.st_rdev and found.st_rdev:
                    yield pid
                    break


def _logged_in(port: os.stat_result) -> Iterator[int]:
    """Yield the leader of the session whose controlling terminal the port is."""
    for pid in _processes():
        fields = _text(f"/proc/{pid}/stat").rpartition(")")[2].split()  # the name may contain spaces
        if len(fields) > 4 and fields[3] == str(pid) and int(fields[4]) & 0xFFFFFFFF == port.st_rdev:
            yield pid


def _processes() -> Iterator[int]:
    try:
        names = os.listdir("/proc")
    except OSError:
        return
    yield from (int(name) for name in names if name.isdecimal())


def _name(pid: int) -> str:
    if pid == os.getpid():
        return "this program"
    return f"{_text(f'/proc/{pid}/comm').strip() or 'a program'} (process {pid})"


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""
