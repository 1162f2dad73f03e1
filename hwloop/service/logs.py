"""Log records where a service manager reads them: in the journal with priority and fields, or as JSON, one line each.

A program that does not configure logging has Python's last resort: warnings and errors as bare text on standard error.
systemd files that text with the priority of everything else. So where standard error is the journal (JOURNAL_STREAM,
systemd.exec(5)), `install()` puts a `JournalHandler` there. It speaks the journal's own protocol
(systemd.io/JOURNAL_NATIVE_PROTOCOL): `journalctl -p err` finds errors, and `journalctl -o json` shows logger, task,
file and line. A record is one entry of the journal, whatever its text.

A program that configures logging is left alone; it may add a handler of this module itself.
"""

from __future__ import annotations

import array
import errno
import fcntl
import json
import logging
import os
import re
import socket
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

JOURNAL = "/run/systemd/journal/socket"

_SEALS = 0x0F
"""F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE of fcntl(2): the journal takes a sealed memory file only."""
_F_ADD_SEALS = 1033
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
"""The attributes that each record has; others were passed as `extra`."""


def priority(level: int) -> int:
    """Return the priority of syslog(3) for a level of logging: 3 (error) for ERROR, 7 (debug) for DEBUG."""
    return next((number for least, number in ((50, 2), (40, 3), (30, 4), (20, 6)) if level >= least), 7)


class JournalHandler(logging.Handler):
    """Writes records to systemd's journal, each as one entry.

    Its fields are MESSAGE, PRIORITY, SYSLOG_IDENTIFIER, LOGGER, CODE_FILE, CODE_LINE, CODE_FUNC, THREAD_NAME,
    TASK_NAME, for an exception EXCEPTION and TRACEBACK, and those passed as `extra`, in upper case. Where there is no
    journal, the text goes to standard error with the prefix that systemd understands (sd-daemon(3)): `<3>message`.

    Parameters:
        identifier: the name of the program in the journal; by default that of the file that runs.
        path: the journal's socket, if it is not the usual one.
        level: the least level of the records that it writes.
    """

    def __init__(self, identifier: str = "", *, path: str = "", level: int = logging.NOTSET) -> None:
        super().__init__(level)
        self._identifier = identifier or os.path.basename(sys.argv[0]) or "python"
        self._path = path or JOURNAL
        self._socket: socket.socket | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = dict(_fields(record, self._identifier))
            try:
                self._send(b"".join(_encoded(name, value) for name, value in fields.items()))
            except OSError:
                self._print(fields)
        except Exception:
            self.handleError(record)

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        super().close()

    def _send(self, entry: bytes) -> None:
        if self._socket is None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            self._socket.sendto(entry, self._path)
        except OSError as error:
            if error.errno not in (errno.EMSGSIZE, errno.ENOBUFS):
                raise
            self._send_file(self._socket, entry)

    def _send_file(self, channel: socket.socket, entry: bytes) -> None:
        """Send an entry that no datagram can hold, as the descriptor of a sealed memory file."""
        file = os.memfd_create("journal-entry", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        try:
            with open(file, "wb", closefd=False) as stream:
                stream.write(entry)
            fcntl.fcntl(file, _F_ADD_SEALS, _SEALS)
            rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file]))
            channel.sendmsg([b""], [rights], 0, self._path)
        finally:
            os.close(file)

    def _print(self, fields: Mapping[str, str]) -> None:
        text = "\n".join(filter(None, (fields["MESSAGE"], fields.get("TRACEBACK"))))
        print("\n".join(f"<{fields['PRIORITY']}>{line}" for line in text.splitlines()), file=sys.stderr, flush=True)


class JsonHandler(logging.Handler):
    """Writes records to standard error, each as a JSON object on one line.

    Its keys are `time` (ISO 8601, UTC), `level`, `logger`, `message`, `file`, `line`, `function`, `thread`, `task`, for
    an exception `exception` and `traceback`, and those passed as `extra`.
    """

    def emit(self, record: logging.LogRecord) -> None:
        try:
            seconds, nanoseconds = divmod(round(record.created * 1e6), 1_000_000)
            shown = {
                "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:06}Z",
                "level": record.levelname.lower(),
                **{_JSON_NAMES.get(name, name.lower()): value for name, value in _fields(record, "")},
                "line": record.lineno,
            }
            for name in ("priority", "syslog_identifier"):
                del shown[name]
            print(json.dumps(shown, ensure_ascii=False, default=str), file=sys.stderr, flush=True)
        except Exception:
            self.handleError(record)


_JSON_NAMES = {
    "CODE_FILE": "file",
    "CODE_LINE": "line",
    "CODE_FUNC": "function",
    "THREAD_NAME": "thread",
    "TASK_NAME": "task",
}


def stderr_is_journal() -> bool:
    """Return whether standard error leads to the journal: JOURNAL_STREAM names its device and inode."""
    device, _, inode = os.environ.get("JOURNAL_STREAM", "").partition(":")
    try:
        found = os.fstat(2)
    except OSError:
        return False
    return (device, inode) == (str(found.st_dev), str(found.st_ino))


def install(*, as_json: bool = False, identifier: str = "") -> None:
    """Have warnings of a program that does not configure logging go to the journal, or to standard error as JSON.

    Where standard error is not the journal, and without `as_json`, nothing changes.
    """
    if as_json:
        logging.lastResort = JsonHandler(logging.WARNING)
    elif stderr_is_journal():
        logging.lastResort = JournalHandler(identifier, level=logging.WARNING)


def _fields(record: logging.LogRecord, identifier: str) -> Iterator[tuple[str, str]]:
    yield "MESSAGE", record.getMessage()
    yield "PRIORITY", str(priority(record.levelno))
    yield "SYSLOG_IDENTIFIER", identifier
    yield "LOGGER", record.name
    yield "CODE_FILE", record.pathname
    yield "CODE_LINE", str(record.lineno)
    yield "CODE_FUNC", record.funcName or ""
    yield "THREAD_NAME", record.threadName or ""
    if task := getattr(record, "taskName", None):
        yield "TASK_NAME", task
    if record.exc_info and record.exc_info[1] is not None:
        yield "EXCEPTION", type(record.exc_info[1]).__qualname__
        yield "TRACEBACK", logging.Formatter().formatException(record.exc_info)
    for name, value in vars(record).items():
        if name not in _STANDARD and (field := re.sub(r"[^A-Z0-9_]", "_", name.upper()).lstrip("_0123456789")):
            yield field[:64], str(value)


def _encoded(name: str, value: Any) -> bytes:
    """Encode a field; a value with several lines has its length before it."""
    data = str(value).encode(errors="backslashreplace")
    if b"\n" not in data:
        return name.encode() + b"=" + data + b"\n"
    return name.encode() + b"\n" + len(data).to_bytes(8, "little") + data + b"\n"
