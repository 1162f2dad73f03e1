"""Framers: the same frames however a stream is chopped, nothing lost uncounted, no input that raises."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hwloop.sources.serial.framing import Delimited, Fixed, Frame, Framer, IdleGap, Lines, Raw, nmea_checksum


def even_sum(frame: bytes) -> bool:
    return sum(frame) % 2 == 0


# Few different bytes, so that marks and delimiters are met often, whole and cut in two.
streams = st.lists(st.sampled_from([b"a", b"b", b"\r", b"\n", b"\0", b"\xff", b"ab", b"aab"]), max_size=60).map(
    b"".join
)
MAKERS: dict[str, Callable[[], Framer]] = {
    "lines": Lines,
    "short lines": lambda: Lines(max_length=5),
    "checked lines": lambda: Lines(check=even_sum),
    "lines ending in two bytes": lambda: Lines(terminator=b"ab", max_length=4),
    "delimited": lambda: Delimited(b"\0"),
    "delimited by a self-overlapping mark": lambda: Delimited(b"aa", max_length=3),
    "fixed": lambda: Fixed(3),
    "fixed with a start": lambda: Fixed(4, start=b"ab"),
    "fixed with a self-overlapping start": lambda: Fixed(5, start=b"aab"),
    "fixed with start and check": lambda: Fixed(4, start=b"a", check=even_sum),
    "fixed with a check": lambda: Fixed(3, check=even_sum),
}


makers = st.sampled_from(sorted(MAKERS))
# Two hundred examples each, the same ones in every run.
thorough = settings(max_examples=200, derandomize=True)


def feed(framer: Framer, *reads: bytes) -> list[Frame]:
    return [frame for number, read in enumerate(reads) for frame in framer.feed(read, number)]


def chopped(stream: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted(cut % (len(stream) + 1) for cut in cuts), len(stream)]
    return [stream[start:end] for start, end in itertools.pairwise(places)]


@thorough
@given(maker=makers, stream=streams, cuts=st.lists(st.integers(0, 1000), max_size=12))
def test_frames_do_not_depend_on_how_the_stream_was_read(maker: str, stream: bytes, cuts: list[int]) -> None:
    whole, parts, single = MAKERS[maker](), MAKERS[maker](), MAKERS[maker]()
    wanted = [(frame.data, frame.lost) for frame in feed(whole, stream)]
    assert [(frame.data, frame.lost) for frame in feed(parts, *chopped(stream, cuts))] == wanted
    assert [(frame.data, frame.lost) for frame in feed(single, *(bytes([byte]) for byte in stream))] == wanted
    for framer in (whole, parts, single):
        framer.reset()
    assert (parts.skipped, parts.lost) == (single.skipped, single.lost) == (whole.skipped, whole.lost)


@thorough
@given(maker=makers, stream=streams | st.binary(max_size=200))
def test_every_byte_is_in_a_frame_or_a_delimiter_or_counted(maker: str, stream: bytes) -> None:
    framer = MAKERS[maker]()
    frames = feed(framer, stream)
    framer.reset()
    delivered = sum(len(frame.data) for frame in frames)
    if isinstance(framer, Fixed):
        assert delivered + framer.skipped == len(stream)
    elif isinstance(framer, Delimited):
        mark = framer._delimiter
        delimiters = len(mark) * stream.count(mark)
        stripped = stream.count(b"\r" + mark) if isinstance(framer, Lines) else 0
        assert 0 <= len(stream) - delivered - framer.skipped - delimiters <= stripped
    assert framer.lost >= sum(frame.lost for frame in frames)


@thorough
@given(maker=makers.filter(lambda name: name not in ("lines", "checked lines", "delimited")), noise=streams)
def test_memory_is_bounded_by_the_longest_frame(maker: str, noise: bytes) -> None:
    framer = MAKERS[maker]()
    for _ in range(5):
        framer.feed(noise, 0)
        assert len(framer._buffer) <= 8  # type: ignore[attr-defined]


def test_endless_noise_is_not_kept() -> None:
    framer = Lines(max_length=100)
    for _ in range(100):
        framer.feed(b"x" * 1000, 0)
        assert len(framer._buffer) <= 100
    assert feed(framer, b"\nok\n") == [Frame(b"ok", 0, lost=1)]
    assert framer.skipped == 100_000


class TestRaw:
    def test_a_frame_is_a_read(self) -> None:
        assert feed(Raw(), b"ab", b"", b"c") == [Frame(b"ab", 0), Frame(b"c", 2)]


class TestLines:
    def test_both_line_ends_come_off(self) -> None:
        assert [frame.data for frame in feed(Lines(), b"one\r\ntwo\n\r\n\r\r\n")] == [b"one", b"two", b"", b"\r"]

    def test_a_line_is_stamped_when_its_end_was_read(self) -> None:
        assert feed(Lines(), b"a", b"b\nc", b"", b"\n") == [Frame(b"ab", 1), Frame(b"c", 3)]

    def test_the_longest_line_passes_and_one_byte_more_is_lost(self) -> None:
        framer = Lines(max_length=4)
        assert feed(framer, b"1234\n12345\n12\n") == [Frame(b"1234", 0), Frame(b"12", 0, lost=1)]
        assert (framer.skipped, framer.lost) == (5, 1)

    def test_a_line_that_fails_its_check_is_lost(self) -> None:
        framer = Lines(check=bytes.isascii)
        assert feed(framer, b"a\n\xff\n\xfe\nb\n") == [Frame(b"a", 0), Frame(b"b", 0, lost=2)]

    def test_a_reset_loses_the_incomplete_frame(self) -> None:
        framer = Lines()
        feed(framer, b"half a li")
        framer.reset()
        framer.reset()
        assert feed(framer, b"whole\n") == [Frame(b"whole", 0, lost=1)]
        assert framer.skipped == 9


class TestDelimited:
    def test_empty_frames_are_passed_over(self) -> None:
        slip = Delimited(b"\xc0")
        assert feed(slip, b"\xc0one\xc0\xc0two\xc0") == [Frame(b"one", 0), Frame(b"two", 0)]
        assert slip.lost == 0


class TestFixed:
    def test_out_of_step_it_finds_the_next_start(self) -> None:
        framer = Fixed(4, start=b"BM")
        assert feed(framer, b"12BBM", b"34", b"BM56") == [Frame(b"BM34", 1, lost=1), Frame(b"BM56", 2)]
        assert framer.skipped == 3

    def test_a_false_start_is_stepped_over(self) -> None:
        """A start mark inside a frame that was joined in the middle looks like a frame, until its check fails."""
        frames = [b"BM" + bytes([number, 66, 77, 9]) for number in (1, 2, 3)]
        framer = Fixed(6, start=b"BM", check=lambda frame: frame[5] == 9)
        assert [frame.data for frame in feed(framer, frames[0][3:] + frames[1] + frames[2])] == frames[1:]

    def test_a_damaged_frame_costs_no_other(self) -> None:
        good = [bytes([number, 0, number]) for number in range(1, 6)]
        framer = Fixed(3, check=lambda frame: frame[0] == frame[2] and frame[0] != 0)
        assert feed(framer, good[0] + good[1] + b"\x07\x00\x08" + good[3]) == [
            Frame(good[0], 0),
            Frame(good[1], 0),
            Frame(good[3], 0, lost=1),
        ]

    def test_a_long_stretch_counts_the_frames_it_had_room_for(self) -> None:
        framer = Fixed(4, start=b"\xaa")
        assert feed(framer, b"\0" * 9, b"\xaa123") == [Frame(b"\xaa123", 1, lost=3)]


class TestIdleGap:
    def test_silence_ends_a_frame(self) -> None:
        framer = IdleGap(0.001)
        assert framer.deadline_ns is None
        framer.feed(b"one", 5_000_000)
        framer.feed(b"two", 5_500_000)
        assert framer.deadline_ns == 6_500_000
        assert framer.flush(6_499_999) == []
        assert framer.flush(6_500_000) == [Frame(b"onetwo", 5_500_000)]
        assert framer.deadline_ns is None
        assert framer.flush(9_000_000) == []

    def test_a_late_read_does_not_cut_a_frame(self) -> None:
        """The time of a read says when the program came round to it, not when the bytes were on the wire."""
        framer = IdleGap(0.001)
        framer.feed(b"one", 0)
        framer.feed(b"two", 80_000_000)
        assert framer.flush(81_000_000) == [Frame(b"onetwo", 80_000_000)]

    @thorough
    @given(
        frames=st.lists(st.binary(min_size=1, max_size=20), max_size=6),
        cuts=st.lists(st.integers(0, 20), max_size=5),
    )
    def test_frames_do_not_depend_on_how_each_was_read(self, frames: list[bytes], cuts: list[int]) -> None:
        framer, got, now_ns = IdleGap(0.001, max_length=15), [], 0
        for data in frames:
            for part in chopped(data, cuts):
                framer.feed(part, now_ns)
                now_ns += 1000
            now_ns += 1_000_000
            got += [frame.data for frame in framer.flush(now_ns)]
        assert got == [data for data in frames if len(data) <= 15]
        assert framer.lost == len(frames) - len(got)
        assert framer.skipped == sum(len(data) for data in frames if len(data) > 15)

    def test_the_gap_follows_the_baud_rate_but_outlasts_what_hardware_collects(self) -> None:
        framer = IdleGap(minimum=0.001)
        framer.set_character_time(10 / 9600)
        assert framer.gap == pytest.approx((3.5 + 16) * 10 / 9600)
        quick = IdleGap()
        quick.set_character_time(10 / 115200)
        assert quick.gap == 0.02
        given = IdleGap(0.5)
        given.set_character_time(1.0)
        assert given.gap == 0.5

    def test_a_frame_that_fails_its_check_is_lost(self) -> None:
        framer = IdleGap(0.001, check=even_sum)
        framer.feed(b"\x01", 0)
        assert framer.flush(2_000_000) == []
        framer.feed(b"\x02", 3_000_000)
        assert framer.flush(5_000_000) == [Frame(b"\x02", 3_000_000, lost=1)]
        assert framer.skipped == 1


def test_a_check_that_raises_is_a_check_that_fails_and_is_kept_for_a_report() -> None:
    framer = Lines(check=lambda line: int(line) > 0)
    assert feed(framer, b"x\n7\n") == [Frame(b"7", 0, lost=1)]
    assert isinstance(framer.check_error, ValueError)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Lines(max_length=0), "max_length"),
        (lambda: Lines(terminator=b""), "delimiter"),
        (lambda: Delimited("\n"), "delimiter"),
        (lambda: Fixed(0), "length"),
        (lambda: Fixed(2, start=b"abc"), "start mark"),
        (lambda: IdleGap(0), "gap"),
        (lambda: IdleGap(characters=-1), "characters"),
        (lambda: IdleGap(max_length=0), "max_length"),
    ],
)
def test_arguments_that_make_no_sense_raise(make: Callable[[], Framer], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        make()


def test_a_check_must_be_a_function() -> None:
    with pytest.raises(TypeError, match="check"):
        Lines(check="sum")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("sentence", "right"),
    [
        # The sentence that the NMEA 0183 literature uses, and ways to spoil it.
        (b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47", True),
        (b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*48", False),
        (b"GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47", False),
        (b"$GPGGA,123519,4807.038,N*4", False),
        (b"$GPGGA,123519,4807.038,N", False),
        (b"!AIVDM,1,1,,A,14eG;o@034o8sd<L9i:a;WF>062D,0*7D", True),
        (b"$*00", True),
        (b"", False),
        (b"$", False),
        (b"\xff\xfe", False),
    ],
)
def test_an_nmea_checksum_is_the_xor_of_the_body(sentence: bytes, right: bool) -> None:
    assert nmea_checksum(sentence) is right
