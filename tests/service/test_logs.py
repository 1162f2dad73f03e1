"""Log records in the journal's protocol and as JSON, over a real datagram socket."""

from __future__ import annotations

import array
import json
import logging
import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hwloop.service import logs

Entry = dict[str, str]


def parsed(data: bytes) -> Entry:
    """Return the fields of an entry in the journal's native protocol."""
    fields = {}
    while data:
        line, _, rest = data.partition(b"\n")
        if b"=" in line:
            name, _, value = line.partition(b"=")
        else:
            name, length = line, int.from_bytes(rest[:8], "little")
            value, rest = rest[8 : 8 + length], rest[8 + length + 1 :]
        fields[name.decode()] = value.decode()
        data = rest
    return fields


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[tuple[str, Callable[[], Entry]]]:
    """Return the path of a journal's socket, and a function that returns the next entry there."""
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as server:
        server.bind(path)

        def entry() -> Entry:
            data, ancillary, _, _ = server.recvmsg(1 << 20, socket.CMSG_SPACE(4))
            for _, _, rights in ancillary:
                (file,) = array.array("i", rights)
                with open(file, "rb") as stream:
                    stream.seek(0)
                    data = stream.read()
            return parsed(data)

        yield path, entry


@pytest.fixture
def logger() -> Iterator[logging.Logger]:
    logger = logging.getLogger("test.logs")
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    yield logger
    for handler in [*logger.handlers]:
        logger.removeHandler(handler)
        handler.close()


def test_a_record_is_an_entry_with_priority_place_and_extra_fields(journal, logger):
    path, entry = journal
    logger.addHandler(logs.JournalHandler("door", path=path))
    logger.error("line %d is stuck", 17, extra={"line": 17, "bad name!": "x", "_own": "y"})
    fields = entry()
    assert fields["MESSAGE"] == "line 17 is stuck"
    assert fields["PRIORITY"] == "3"
    assert fields["SYSLOG_IDENTIFIER"] == "door"
    assert fields["LOGGER"] == "test.logs"
    assert fields["CODE_FILE"] == __file__
    assert fields["CODE_FUNC"] == "test_a_record_is_an_entry_with_priority_place_and_extra_fields"
    assert fields["THREAD_NAME"] == "MainThread"
    assert (fields["LINE"], fields["BAD_NAME_"], fields["OWN"]) == ("17", "x", "y")


@pytest.mark.parametrize(("level", "expected"), [(10, 7), (20, 6), (30, 4), (35, 4), (40, 3), (50, 2), (60, 2), (5, 7)])
def test_levels_are_the_priorities_of_syslog(level, expected):
    assert logs.priority(level) == expected


def test_an_exception_has_its_type_and_its_traceback_in_the_same_entry(journal, logger):
    path, entry = journal
    logger.addHandler(logs.JournalHandler(path=path))
    try:
        raise ValueError("two\nlines")
    except ValueError:
        logger.exception("it failed\nbadly")
    fields = entry()
    assert fields["MESSAGE"] == "it failed\nbadly"
    assert fields["EXCEPTION"] == "ValueError"
    assert fields["TRACEBACK"].endswith("ValueError: two\nlines")
    with pytest.raises(BlockingIOError):
        entry()


def test_an_entry_too_large_for_a_datagram_arrives_whole(journal, logger):
    path, entry = journal
    logger.addHandler(logs.JournalHandler(path=path))
    text = "x" * 3_000_000
    logger.warning(text)
    assert entry()["MESSAGE"] == text


def test_without_a_journal_lines_have_the_prefix_that_systemd_understands(tmp_path, logger, capsys):
    logger.addHandler(logs.JournalHandler(path=str(tmp_path / "missing")))
    logger.warning("first\nsecond")
    assert capsys.readouterr().err == "<4>first\n<4>second\n"


def test_text_that_is_not_unicode_and_arguments_that_do_not_fit_harm_nothing(journal, capsys):
    path, entry = journal
    handler = logs.JournalHandler(path=path)
    handler.handle(logging.makeLogRecord({"levelno": 30, "msg": "a lone \udc80 surrogate"}))
    assert entry()["MESSAGE"] == "a lone \\udc80 surrogate"
    handler.handle(
        logging.makeLogRecord({"levelno": 30, "msg": "%d apples", "args": ("many",)})
    )  # logging's own report
    assert "--- Logging error ---" in capsys.readouterr().err
    handler.close()


def test_json_is_one_object_on_one_line(logger, capsys):
    logger.addHandler(logs.JsonHandler())
    try:
        raise KeyError("a\nb")
    except KeyError:
        logger.exception("it failed\nbadly", extra={"line_number": 17, "thing": object})
    (line,) = capsys.readouterr().err.splitlines()
    shown = json.loads(line)
    assert shown["message"] == "it failed\nbadly"
    assert (shown["level"], shown["logger"], shown["exception"]) == ("error", "test.logs", "KeyError")
    assert shown["file"] == __file__
    assert isinstance(shown["line"], int)
    assert shown["line_number"] == "17"
    assert shown["time"][4] == "-"
    assert shown["time"].endswith("Z")
    assert "priority" not in shown


PROGRAM = """
import logging, sys
from hwloop.service import logs
logs.install(as_json={as_json})
logging.getLogger("x").warning("careful")
logging.getLogger("x").info("not shown")
"""


def run(program: str, stream: int, environment: dict[str, str]) -> None:
    subprocess.run([sys.executable, "-c", program], stderr=stream, env=os.environ | environment, check=True)


def test_the_last_resort_changes_only_where_it_should(tmp_path):
    """The journal's own socket is not there, so that its text shows the prefix."""
    for as_json, named, expected in ((False, False, "careful\n"), (False, True, "<4>careful\n"), (True, True, "{")):
        with open(tmp_path / "stderr", "w+b") as stream:
            found = os.fstat(stream.fileno())
            stream_name = f"{found.st_dev}:{found.st_ino}" if named else f"{found.st_dev}:1"
            program = PROGRAM.format(as_json=as_json).replace("logs.install", "logs.JOURNAL = '/nowhere'\nlogs.install")
            run(program, stream.fileno(), {"JOURNAL_STREAM": stream_name})
            stream.seek(0)
            text = stream.read().decode()
        assert text.startswith(expected)
        assert text.count("\n") == 1


@pytest.mark.parametrize("value", ["", "12", "a:b", ":"])
def test_a_malformed_journal_stream_is_not_the_journal(monkeypatch, value):
    monkeypatch.setenv("JOURNAL_STREAM", value)
    assert not logs.stderr_is_journal()
