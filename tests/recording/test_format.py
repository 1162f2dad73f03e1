"""The format of recordings: what is written is read again, and a damaged file is readable up to the damage."""

from __future__ import annotations

import io
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop import recording
from hwloop.recording.format import FRAME, Decoder, Encoder, Ended, Header, Lost, Signalled, file_preamble
from hwloop.trace_events import (
    FaultChange,
    I2cMessage,
    I2cTransfer,
    LineChange,
    Printed,
    SerialData,
    SerialFrame,
    SerialSettings,
    SpiTransfer,
)

TIMES = st.integers(-(2**63), 2**63 - 1)
NAMES = st.text(max_size=40)
DIRECTIONS = st.sampled_from(["received", "sent"])
DATA = st.binary(max_size=300)
SETTINGS = st.builds(
    SerialSettings, st.integers(1, 4_000_000), st.integers(5, 8), st.sampled_from("NEOMS"), st.sampled_from([1, 1.5, 2])
)
MESSAGES = st.builds(I2cMessage, st.integers(0, 127), DIRECTIONS, DATA)
EVENTS = st.one_of(
    st.builds(LineChange, TIMES, st.integers(0, 2**32 - 1), st.integers(0, 1), NAMES),
    st.builds(SerialData, TIMES, NAMES, DIRECTIONS, DATA, st.none() | SETTINGS),
    st.builds(SerialFrame, TIMES, NAMES, DATA),
    st.builds(I2cTransfer, TIMES, TIMES, st.integers(0, 255), st.lists(MESSAGES, max_size=5).map(tuple), NAMES),
    st.builds(SpiTransfer, TIMES, TIMES, st.integers(0, 255), st.integers(0, 15), DATA, DATA, NAMES),
    st.builds(FaultChange, TIMES, NAMES, NAMES, st.booleans(), st.text()),
    st.builds(Printed, TIMES, st.sampled_from(["stdout", "stderr"]), st.text(st.characters())),
    st.builds(Lost, TIMES, st.integers(0, 2**64 - 1)),
    st.builds(Signalled, TIMES, st.integers(0, 64)),
    st.builds(Ended, TIMES, st.text(max_size=20)),
)

SAMPLE = [
    LineChange(1_000, 17, 0, "the button on line 17"),
    SerialData(2_000, "/dev/ttyAMA0", "received", b"$GPGGA\r\n", SerialSettings(9600, 7, "E", 1.5)),
    I2cTransfer(3_000, 4_000, 1, (I2cMessage(0x76, "sent", b"\xf7"), I2cMessage(0x76, "received", b"abc")), ""),
    SpiTransfer(4_500, 4_600, 0, 1, b"\x01\x80\x00", b"\x00\x02\xa0", ""),
    SerialFrame(5_000, "/dev/ttyAMA0", b"$GPGGA"),
    FaultChange(6_000, "stuck-line", "line 17", True, "at 0"),
    Printed(7_000, "stdout", "door 13°"),
    LineChange(8_000, 17, 1, "the button on line 17"),
    Lost(9_000, 3),
    Signalled(9_500, 15),
    Ended(10_000, "0"),
]


def encoded(events, header=Header(board="a board")):  # noqa: B008  # it is frozen
    encoder = Encoder()
    return file_preamble() + b"".join(encoder.encode(entry) for entry in [header, *events])


def frames(data, start):
    """Return the end of each record in a file."""
    ends = []
    while start < len(data):
        length, _ = FRAME.unpack_from(data, start)
        start += FRAME.size + length
        ends.append(start)
    return ends


@given(st.lists(EVENTS, max_size=20))
@settings(max_examples=40, deadline=None)
def test_decoding_returns_what_was_encoded(events):
    encoder, decoder = Encoder(7), Decoder()
    stream = io.BytesIO(b"".join(map(encoder.encode, events)))
    found = []
    while frame := stream.read(FRAME.size):
        length, _ = FRAME.unpack(frame)
        entry = decoder.decode(stream.read(length))
        if entry is not None:
            found.append(entry)
    assert found == events
    assert list(map(type, found)) == list(map(type, events))


def test_a_name_is_written_once():
    once = len(encoded(SAMPLE[:1]))
    assert len(encoded(SAMPLE[:1] * 2)) - once == 24


def test_names_beyond_the_table_are_defined_anew(monkeypatch, tmp_path):
    monkeypatch.setattr("hwloop.recording.format._NAMES_MAX", 3)
    events = [LineChange(index, 1, 0, f"part {index * 7 % 5}") for index in range(50)]
    (tmp_path / "log").write_bytes(encoded(events))
    assert list(recording.read(tmp_path / "log")[0]) == events


def test_a_file_that_is_cut_at_any_byte_is_readable_up_to_the_cut(tmp_path):
    data, path = encoded(SAMPLE), tmp_path / "cut.hwlog"
    header_end, *ends = frames(data, len(file_preamble()))
    for size in range(len(data) + 1):
        path.write_bytes(data[:size])
        if size < header_end:
            with pytest.raises(recording.RecordingError, match=r"cut off|not a recording"):
                recording.read(path)
            continue
        [run] = recording.read(path)
        events = list(run)
        assert events == SAMPLE[: len(events)]
        complete = [end for end in (header_end, *ends) if end <= size]
        assert run.end_offset == complete[-1]
        assert run.ending == ("closed" if size == len(data) else "open" if size in complete else "cut")


def test_a_damaged_byte_ends_the_reading_before_its_record(tmp_path):
    data, path = encoded(SAMPLE), tmp_path / "damaged.hwlog"
    header_end = frames(data, len(file_preamble()))[0]
    for place in range(header_end, len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 0x55]) + data[place + 1 :])
        [run] = recording.read(path)
        events = list(run)
        assert events == SAMPLE[: len(events)]
        assert run.end_offset <= place
        assert run.ending in ("damaged", "cut")


def test_random_garbage_after_the_header_is_no_event(tmp_path):
    source, path = random.Random(4), tmp_path / "garbage.hwlog"
    start = encoded([])
    for _ in range(200):
        path.write_bytes(start + source.randbytes(source.randrange(1, 400)))
        [run] = recording.read(path)
        assert list(run) == []
        assert run.ending in ("damaged", "cut", "open")


@given(st.binary(max_size=200))
@settings(max_examples=20, deadline=None)
def test_any_other_file_is_rejected(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("any") / "file"
    path.write_bytes(content)
    with pytest.raises(recording.RecordingError, match=str(path)):
        recording.read(path)


def test_a_newer_format_is_rejected(tmp_path):
    path = tmp_path / "newer.hwlog"
    data = encoded(SAMPLE)
    path.write_bytes(data[:8] + bytes([2]) + data[9:])
    with pytest.raises(recording.RecordingError, match=r"has format 2, and this hwloop reads format 1.*update hwloop"):
        recording.read(path)


def test_records_and_keys_of_the_header_that_a_newer_hwloop_adds_are_skipped(tmp_path):
    from zlib import crc32

    path, body = tmp_path / "log", b"\xf0 of a kind to come"
    newer = FRAME.pack(len(body), crc32(body)) + body
    header = b'\x01{"board": "a board", "weather": "rain"}'
    start = FRAME.pack(len(header), crc32(header)) + header
    path.write_bytes(file_preamble() + start + newer + Encoder().encode(SAMPLE[0]))
    [run] = recording.read(path)
    assert run.header.board == "a board"
    assert list(run) == SAMPLE[:1]


def test_an_event_of_another_kind_is_a_type_error():
    with pytest.raises(TypeError, match="no records for str"):
        Encoder().encode("a word")


@pytest.mark.parametrize(("path", "message"), [("missing", "no such file"), (".", "is a directory")])
def test_a_path_that_is_no_file_is_an_error(tmp_path, path, message):
    with pytest.raises(recording.RecordingError, match=message):
        recording.read(tmp_path / path)


def test_the_sample_has_every_kind(tmp_path):
    """Otherwise the tests above would leave one out."""
    path = tmp_path / "all.hwlog"
    path.write_bytes(encoded(SAMPLE))
    assert {type(event) for event in recording.read(path)[0]} == set(Encoder()._writers) - {Header}
