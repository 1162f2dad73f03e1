"""The flight recorder's ring: the last events are there, whenever the program was killed."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from hwloop import recording
from hwloop.board import Board
from hwloop.recording import ring as rings
from hwloop.recording.format import Header
from hwloop.recording.recorder import Recorder
from hwloop.recording.ring import Ring
from hwloop.trace_events import I2cMessage, I2cTransfer, LineChange, SerialData


def change(number):
    return LineChange(number, 17, number % 2, "the button on line 17")


@pytest.fixture
def small(monkeypatch):
    """Small segments, so that a few events fill a ring."""
    monkeypatch.setattr(rings, "SEGMENT", 1024)
    monkeypatch.setattr(rings, "SMALLEST", 4096)
    monkeypatch.setattr(rings, "_PIECE", 256)
    return 4096


@pytest.fixture
def path(tmp_path):
    return tmp_path / "flight.ring"


def numbers(run):
    return [event.when_ns for event in run if isinstance(event, LineChange)]


def assert_consecutive(found, last):
    assert found == list(range(last - len(found) + 1, last + 1))


def test_a_ring_keeps_the_last_events(path, small):
    ring = Ring(path, small)
    ring.begin(Header(board="a board"))
    size = os.path.getsize(path)
    for count in range(1, 250):
        ring.write(change(count))
        [run] = recording.read(path)
        found = numbers(run)
        assert_consecutive(found, count)
        assert run.header.first == (found[0] == 1)
        assert len(found) == count or len(found) >= 70
    assert os.path.getsize(path) == size
    ring.close()


def test_the_next_run_goes_on_behind_the_last_one(path, small):
    for process in range(1, 6):
        ring = Ring(path, small)
        ring.begin(Header(process=process))
        for count in range(10):
            ring.write(change(count))
        ring.close()
    runs = recording.read(path)
    assert [run.header.process for run in runs] == [2, 3, 4, 5]
    assert all(run.header.first and numbers(run) == list(range(10)) for run in runs)


def test_a_run_that_fills_the_ring_replaces_the_earlier_ones(path, small):
    for process in (1, 2):
        ring = Ring(path, small)
        ring.begin(Header(process=process))
        for count in range(process * 100):
            ring.write(change(count))
        ring.close()
    [run] = recording.read(path)
    assert (run.header.process, run.header.first) == (2, False)
    assert_consecutive(numbers(run), 199)


class Killed(BaseException):
    pass


class Dying:
    """A mapping whose program is killed within its nth store."""

    def __init__(self, mapping, stores, part):
        self._mapping, self._stores, self._part = mapping, stores, part

    def __setitem__(self, place, data):
        self._stores -= 1
        if self._stores:
            self._mapping[place] = data
            return
        length = int(len(data) * self._part)
        self._mapping[place.start : place.start + length] = data[:length]
        raise Killed

    def close(self):
        self._mapping.close()


def written_until_killed(ring):
    written = 0
    try:
        while True:
            ring.write(change(written + 1))
            written += 1
    except Killed:
        return written


@pytest.mark.parametrize("part", [0.0, 0.4, 0.99])
def test_a_ring_is_readable_whichever_store_was_the_last_one(path, small, part):
    for stores in range(1, 220, 3):
        if path.exists():
            path.unlink()
        ring = Ring(path, small)
        ring.begin(Header())
        ring._map = Dying(ring._map, stores, part)
        written = written_until_killed(ring)
        ring.close()
        runs = recording.read(path)
        assert len(runs) == 1
        found = numbers(runs[0])
        # The last record may be complete although its store was not: the rest was there from an older one.
        assert_consecutive(found, found[-1] if found else 0)
        assert (found[-1] if found else 0) in (written, written + 1)
        assert runs[0].ending in ("open", "cut")
        continued = Ring(path, small)
        continued.begin(Header(process=2))
        continued.write(change(1))
        continued.close()
        assert numbers(recording.read(path)[-1]) == [1]


def test_an_interrupted_change_of_segments_costs_no_later_event(path, small):
    ring = Ring(path, small)
    ring.begin(Header())
    mapping = ring._map
    for stores in (1, 2, 3):
        ring._map = Dying(mapping, stores, 1.0)
        with pytest.raises(Killed):
            ring._next_segment()
        ring._map = mapping
        ring.write(change(stores))
        assert numbers(recording.read(path)[0])[-1] == stores
    ring.close()


WRITER = """
import sys
from hwloop.board import Board
from hwloop.recording import Recorder, Ring
from hwloop.trace_events import LineChange

recorder = Recorder(Ring(sys.argv[1], 1 << 18))
recorder.attach(Board())
print("ready", flush=True)
count = 0
while True:
    count += 1
    recorder.record(LineChange(count, 17, count % 2, "the button on line 17"))
    if count % 1000 == 0:
        print(count, flush=True)
"""


def kill_at_random(path, source):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        time.sleep(source.random() * 0.05)
        process.kill()
        reported = [int(line) for line in process.stdout.read().split("\n")[:-1]]
    run = recording.read(path)[-1]
    found = numbers(run)
    assert process.returncode == -signal.SIGKILL
    assert run.ending in ("open", "cut")
    if reported:
        assert found[-1] >= reported[-1]
    if found:
        assert_consecutive(found, found[-1])
    return len(found)


def test_a_killed_process_leaves_all_that_it_has_recorded(path):
    source = random.Random(11)
    assert sum(kill_at_random(path, source) for _ in range(3)) > 0


@pytest.mark.slow
def test_a_process_killed_at_any_moment_leaves_a_readable_ring(path):
    source = random.Random(12)
    assert sum(kill_at_random(path, source) for _ in range(40)) > 1000


def test_serial_data_longer_than_a_segment_is_recorded_in_pieces(path, small):
    ring = Ring(path, small)
    ring.begin(Header())
    data = bytes(range(256)) * 8
    ring.write(SerialData(1, "/dev/ttyAMA0", "sent", data))
    ring.write(change(2))
    ring.close()
    *pieces, last = recording.read(path)[0]
    assert last == change(2)
    assert b"".join(piece.data for piece in pieces) == data[-len(b"".join(piece.data for piece in pieces)) :]
    assert len(pieces) > 4


def test_another_event_that_no_segment_has_room_for_is_counted(path, small):
    ring = Ring(path, small)
    ring.begin(Header())
    ring.write(I2cTransfer(1, 2, 1, (I2cMessage(0x3C, "sent", bytes(2000)),), ""))
    ring.write(change(2))
    ring.close()
    assert list(recording.read(path)[0]) == [recording.Lost(1, 1), change(2)]


def test_a_long_header_leaves_out_what_a_run_can_do_without(path):
    ring = Ring(path, 1 << 18)
    ring.begin(Header(board="a board", state={"levels": [[1, 1]] * 10_000}))
    ring.write(change(1))
    ring.close()
    [run] = recording.read(path)
    assert (run.header.board, run.header.state, numbers(run)) == ("a board", {}, [1])


def test_a_ring_is_read_while_a_program_records_into_it(path):
    recorder = Recorder(Ring(path, 1 << 18))
    recorder.attach(Board())
    recorder.record(change(1))
    [run] = recording.read(path)
    assert (numbers(run), run.ending) == ([1], "open")
    recorder.record(change(2))
    recorder.status = "0"
    recorder.close()
    assert numbers(run) == [1]  # as at that moment
    [run] = recording.read(path)
    assert (numbers(run), run.ending) == ([1, 2], "closed")


def test_a_ring_has_one_process(path):
    with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        with pytest.raises(recording.RecordingError, match="another process records into this ring"):
            Ring(path, 1 << 18)
        process.kill()
        process.stdout.read()
    Ring(path, 1 << 18).close()


def test_reading_its_own_ring_does_not_end_a_programs_lock(path):
    """Closing any descriptor of a file ends a process's lock on it, so the ring opens no second one itself."""
    Ring(path, 1 << 18).close()
    ring = Ring(path, 1 << 18)
    code = f"from hwloop.recording import Ring; Ring({str(path)!r}, 1 << 18)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "another process records into this ring" in result.stderr
    ring.close()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"precious", "the file exists and is not a flight recorder's ring; choose another path, or remove it"),
        (b"HWRING\r\n\x07\0\0\0", "has format 7, and this hwloop reads format 1"),
        (b"HWRING\r\n\x01\0\0\0" + bytes(8), "the first bytes of the ring are damaged"),
    ],
)
def test_another_file_is_left_alone(path, content, message):
    path.write_bytes(content)
    with pytest.raises(recording.RecordingError, match=message):
        Ring(path)
    assert path.read_bytes() == content


def test_a_ring_of_another_size_is_left_alone(path):
    Ring(path, 1 << 20).close()
    with pytest.raises(recording.RecordingError, match="the ring has 1 MiB and not 2 MiB; keep its size, or move it"):
        Ring(path, 2 << 20)


def test_a_ring_that_was_cut_off_is_made_whole_again(path):
    ring = Ring(path, 1 << 18)
    ring.begin(Header())
    ring.write(change(1))
    ring.close()
    os.truncate(path, 4096 + 65536)
    ring = Ring(path, 1 << 18)
    ring.begin(Header(process=2))
    ring.write(change(2))
    ring.close()
    assert list(map(numbers, recording.read(path))) == [[1], [2]]


@pytest.mark.parametrize("size", [0, -1, 65536, (1 << 18) - 1])
def test_too_small_a_ring_is_rejected_and_not_created(path, size):
    with pytest.raises(recording.RecordingError, match="a ring has at least 256 KiB"):
        Ring(path, size)
    assert not path.exists()


def test_a_disk_without_room_for_the_ring_is_an_error_at_the_start(path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("hwloop.recording.ring.os.posix_fallocate", full)
    with pytest.raises(recording.RecordingError, match="no room for 8 MiB: no space left on device; choose a smaller"):
        Ring(path)
    assert not path.exists()


def test_a_directory_that_is_missing_is_an_error(tmp_path):
    with pytest.raises(recording.RecordingError, match="there is no directory"):
        Ring(tmp_path / "missing" / "ring")


def test_a_file_that_is_empty_becomes_a_ring(path):
    path.touch()
    Ring(path, 1 << 18).close()
    assert recording.read(path) == []


def test_a_damaged_segment_costs_its_rest_and_is_noted(path, small):
    ring = Ring(path, small)
    ring.begin(Header())
    for count in range(1, 60):
        ring.write(change(count))
    ring.close()
    data = bytearray(path.read_bytes())
    data[4096 + 900] ^= 0xFF
    path.write_bytes(data)
    [run] = recording.read(path)
    found = numbers(run)
    assert run.ending == "damaged"
    assert found[0] == 1
    assert found[-1] == 59
    assert len(found) < 59


def test_a_device_or_a_pipe_is_never_written_to(path):
    os.mkfifo(path)
    for name in (path, "/dev/null"):
        with pytest.raises(recording.RecordingError, match="is not an ordinary file"):
            Ring(name)
        with pytest.raises(recording.RecordingError, match=r"is not an ordinary file|no such device"):
            recording.RecordingFile(name, overwrite=True)
