"""The recorder and its file: nothing blocks the program, nothing is lost silently, and failures are reported once."""

from __future__ import annotations

import collections
import errno
import os
import subprocess
import sys
import threading

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.trace import Trace
from hwloop import recording
from hwloop.recording.file import RecordingFile
from hwloop.recording.recorder import Recorder
from hwloop.trace_events import LineChange

EVENTS = [LineChange(index, 17, index % 2, "outside") for index in range(1000)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.hwlog"


@pytest.fixture
def board():
    wiring = {"device": [{"type": "button", "line": 17, "resistor": True}, {"type": "wire", "lines": [22, 27]}]}
    with SimBoard(wiring, clock=hwloop.VirtualClock()) as board:
        yield board


def test_a_recording_has_the_events_of_the_board_and_its_state_at_the_start(path, board):
    recorder = Recorder(RecordingFile(path), program="door.py", arguments=["--fast"], seed=3)
    recorder.attach(board)
    board.line(17).drive(0)
    board.line(17).drive(None)
    recorder.status = "0"
    recorder.close()
    board.line(17).drive(0)

    [run] = recording.read(path)
    start = board.clock.now_ns()
    by = "the button on line 17"
    assert list(run) == [
        LineChange(start, 17, 0, by),
        LineChange(start, 17, 1, by),
        recording.Ended(start, "0"),
    ]
    assert run.ending == "closed"
    header = run.header
    assert (header.board, header.simulated, header.virtual) == ("simulated board", True, True)
    assert (header.program, header.arguments, header.seed, header.start_ns) == ("door.py", ["--fast"], 3, start)
    assert header.process == os.getpid()
    assert header.state == {"levels": [[17, 1]], "wires": [[22, 27]], "ports": [], "buses": [1]}


def test_a_recorder_without_a_board_makes_a_recording_without_events(path):
    Recorder(RecordingFile(path)).close()
    [run] = recording.read(path)
    assert run.header.board == ""
    assert [type(event) for event in run] == [recording.Ended]


def test_a_recorder_leaves_the_boards_own_tracer_at_work(path, board):
    trace = Trace()
    board.tracer = trace
    recorder = Recorder(RecordingFile(path))
    recorder.attach(board)
    board.line(17).drive(0)
    recorder.close()
    assert board.tracer is trace
    [run] = recording.read(path)
    assert list(trace) == list(run)[:-1] != []


def test_a_second_board_is_not_recorded_and_logged(path, board, caplog):
    recorder = Recorder(RecordingFile(path))
    with SimBoard({"label": "another"}) as second:
        recorder.attach(board)
        recorder.attach(second)
        recorder.attach(board)
        assert second.tracer is None
    recorder.close()
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: recorded is simulated board, and not another too"
    ]


def test_threads_that_record_at_once_lose_no_event(path):
    recorder = Recorder(RecordingFile(path))
    recorder.attach(hwloop.board.Board())

    def record(line):
        for index in range(500):
            recorder.record(LineChange(index, line, index % 2, "outside"))

    threads = [threading.Thread(target=record, args=(line,)) for line in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    recorder.close()
    events = [event for event in recording.read(path)[0] if isinstance(event, LineChange)]
    for line in range(4):
        assert [event.when_ns for event in events if event.line == line] == list(range(500))
    assert not [thread for thread in threading.enumerate() if thread.name == "recording"]


def test_an_event_within_an_event_is_recorded_after_it(path):
    """As when a signal handler interrupts the recorder, and drives a line."""
    store = RecordingFile(path)
    recorder = Recorder(store)
    recorder.attach(hwloop.board.Board())
    write = store.write

    def interrupted(event):
        store.write = write
        recorder.record(EVENTS[1])
        write(event)

    store.write = interrupted
    recorder.record(EVENTS[0])
    recorder.close()
    assert list(recording.read(path)[0])[:2] == EVENTS[:2]


def test_an_event_that_cannot_be_recorded_is_counted_and_reported_once(path, caplog):
    recorder = Recorder(RecordingFile(path))
    recorder.attach(hwloop.board.Board())
    recorder.record(LineChange(1, -5, 0, "outside"))
    recorder.record("nonsense")
    recorder.record(EVENTS[0])
    recorder.close()
    assert recorder.failures == 2
    assert len(caplog.records) == 1
    assert "could not be recorded: LineChange(when_ns=1, line=-5" in caplog.text
    assert next(iter(recording.read(path)[0])) == EVENTS[0]


@pytest.mark.parametrize("kind", ["file", "ring"])
def test_recording_an_event_takes_few_calls_and_none_of_the_system(path, kind):
    """The cost of an event in a measure that no busy machine disturbs: a call takes 0.1 to 0.3 µs."""
    recorder = Recorder(RecordingFile(path) if kind == "file" else recording.Ring(path))
    recorder.attach(hwloop.board.Board())
    recorder.record(EVENTS[0])
    calls = collections.Counter()

    def count(frame, event, function):
        if event == "c_call":
            calls[function.__name__] += 1
        elif event == "call":
            calls[frame.f_code.co_name] += 1

    sys.setprofile(count)
    try:
        for event in EVENTS[1:101]:
            recorder.record(event)
    finally:
        sys.setprofile(None)
    recorder.close()
    assert sum(calls.values()) <= 100 * 25
    assert calls["eventfd_write"] <= (3 if kind == "file" else 0)
    assert calls["record"] == calls["pack"] / 2 == calls["crc32"] == 100


def test_events_that_find_the_buffer_full_are_counted_in_their_place(path, monkeypatch):
    may_write = threading.Event()
    write = os.write

    def slow_write(fd, data):
        may_write.wait()
        return write(fd, data)

    store = RecordingFile(path, buffer=2000)
    recorder = Recorder(store)
    monkeypatch.setattr("hwloop.recording.file.os.write", slow_write)
    recorder.attach(hwloop.board.Board())
    for event in EVENTS:
        recorder.record(event)
    may_write.set()
    recorder.status = "0"
    recorder.close()
    *events, lost, ended = recording.read(path)[0]
    assert events == EVENTS[: len(events)]
    assert lost == recording.Lost(ended.when_ns, len(EVENTS) - len(events))
    assert 0 < len(events) < 90
    assert store.lost == lost.events


def test_a_full_disk_ends_the_recording_once_and_not_the_program(path, monkeypatch, caplog):
    room = [3000]
    write = os.write

    def limited_write(fd, data):
        if not room[0]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        taken = write(fd, data[: room[0]])
        room[0] -= taken
        return taken

    store = RecordingFile(path)
    recorder = Recorder(store)
    monkeypatch.setattr("hwloop.recording.file.os.write", limited_write)
    recorder.attach(hwloop.board.Board())
    for event in EVENTS:
        recorder.record(event)
    recorder.close()
    assert store.failure.errno == errno.ENOSPC
    assert [record.getMessage() for record in caplog.records] == [
        f"{path}: no space left on device; the recording ends here, and the program goes on"
    ]
    [run] = recording.read(path)
    events = list(run)
    assert len(events) > 100
    assert events == EVENTS[: len(events)]
    assert run.ending == "cut"


def test_an_existing_file_is_replaced_on_request_only(path):
    path.write_text("precious")
    with pytest.raises(recording.RecordingError, match="there is a file of this name; choose another one"):
        RecordingFile(path)
    assert path.read_text() == "precious"
    Recorder(RecordingFile(path, overwrite=True)).close()
    assert len(recording.read(path)) == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [("missing/run.hwlog", "there is no directory .*missing; create it first"), ("file/run.hwlog", "not a directory")],
)
def test_a_file_that_cannot_be_created_is_an_error_with_advice(tmp_path, name, message):
    (tmp_path / "file").touch()
    with pytest.raises(recording.RecordingError, match=message):
        RecordingFile(tmp_path / name)


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_directory_that_may_not_be_written_is_an_error_with_advice(path, monkeypatch, number):
    def reject(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("hwloop.recording.file.os.open", reject)
    with pytest.raises(recording.RecordingError, match="choose a directory where this user may write"):
        RecordingFile(path)


FORKED = """
import os, sys
from hwloop.board import Board
from hwloop.recording import Recorder, RecordingFile, Ring
from hwloop.trace_events import LineChange

recorders = [Recorder(RecordingFile(sys.argv[1])), Recorder(Ring(sys.argv[2]))]
boards = [Board(), Board()]
for recorder, board in zip(recorders, boards):
    recorder.attach(board)
    board.tracer.record(LineChange(1, 17, 0, "outside"))
child = os.fork()
for board in boards:
    board.tracer.record(LineChange(2, 17, 1, "outside" if child else "program"))
if not child:
    for recorder in recorders:
        recorder.status = "child"
        recorder.close()
    os._exit(0)
os.waitpid(child, 0)
for recorder in recorders:
    recorder.status = "parent"
    recorder.close()
"""


def test_a_forked_child_leaves_the_recording_to_its_parent(tmp_path):
    paths = [tmp_path / "log", tmp_path / "ring"]
    subprocess.run([sys.executable, "-W", "ignore", "-c", FORKED, *map(str, paths)], check=True)
    for path in paths:
        first, second, ended = recording.read(path)[0]
        assert [first, second] == [LineChange(1, 17, 0, "outside"), LineChange(2, 17, 1, "outside")]
        assert ended.status == "parent"
