"""Traces as pictures: WaveDrom's JSON, and SVG."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from firmware_sim.trace import write
from firmware_sim.trace.wavedrom import PERIODS
from hwloop.trace_events import (
    FaultChange,
    I2cMessage,
    I2cTransfer,
    LineChange,
    Printed,
    SerialData,
    SerialFrame,
    SerialSettings,
)

MS = 1_000_000
EVENTS = [
    LineChange(2 * MS, 17, 0, "the button on line 17"),
    LineChange(20 * MS, 27, 1, "program"),
    LineChange(20 * MS + 5, 27, 0, "program"),
    LineChange(20 * MS + 9, 27, 1, "program"),
    SerialData(40 * MS, "/dev/ttyS0", "received", b"<OK>\r\n", SerialSettings(9600)),
    SerialFrame(40 * MS, "/dev/ttyS0", b"<OK>"),
    I2cTransfer(50 * MS, 51 * MS, 1, (I2cMessage(0x76, "sent", b"\xd0"), I2cMessage(0x76, "received", b"\x60")), ""),
    LineChange(60 * MS, 17, 1, "the button on line 17"),
    FaultChange(62 * MS, "stuck-line", "line 17", True, ""),
    Printed(70 * MS, "stdout", "\x1b[1mbold\x1b[0m & \ttab"),
]


def wavedrom(tmp_path, events, **options):
    write(events, tmp_path / "run.json", **options)
    document = json.loads((tmp_path / "run.json").read_text())
    return document, {signal["name"]: signal for signal in document["signal"]}


def test_wavedrom_has_a_wave_for_each_row_in_equal_periods(tmp_path):
    document, signals = wavedrom(tmp_path, EVENTS, start_ns=0, end_ns=80 * MS, names={27: "lamp"})
    assert list(signals) == [
        "17 button",
        "27 lamp",
        "/dev/ttyS0 frames",
        "/dev/ttyS0 received",
        "i2c 1",
        "faults",
        "stdout",
    ]
    assert document["head"]["text"] == "0.000000 s to 0.080000 s, a period is 1 ms"
    assert {len(signal["wave"]) for signal in signals.values()} == {PERIODS}
    assert signals["17 button"]["wave"] == "1.0" + "." * 57 + "1" + "." * 19
    assert signals["27 lamp"]["wave"] == "0" + "." * 19 + "x1" + "." * 58
    # Six characters at 9600 baud take 6.25 ms.
    assert signals["/dev/ttyS0 received"]["wave"] == "z" + "." * 32 + "=" + "." * 7 + "z" + "." * 38
    assert signals["/dev/ttyS0 received"]["data"] == [r"'<OK>\r\n'"]
    assert signals["i2c 1"]["data"] == ["0x76 w d0 r 60"]
    assert signals["i2c 1"]["wave"] == "z" + "." * 49 + "=....z" + "." * 24


def test_wavedrom_joins_texts_of_one_period_and_cuts_those_without_room(tmp_path):
    events = [Printed(at * MS, "stdout", text) for at, text in ((1, "one"), (1, "two"), (4, "a long text"), (6, "end"))]
    _, signals = wavedrom(tmp_path, events, start_ns=0, end_ns=80 * MS)
    assert signals["stdout"]["wave"] == "z=..=.=.z" + "." * 71
    assert signals["stdout"]["data"] == ["one two", "a lo…", "end"]


def svg(tmp_path, events, **options):
    write(events, tmp_path / "run.svg", **options)
    root = ElementTree.parse(tmp_path / "run.svg").getroot()
    found = {}
    for element in root.iter():
        found.setdefault(element.get("class") or element.tag.split("}")[1], []).append(element)
    return found


def test_svg_has_labels_graphs_boxes_with_their_whole_text_and_faults(tmp_path):
    found = svg(tmp_path, EVENTS, start_ns=0, end_ns=80 * MS, names={27: "lamp"})
    texts = [element.text for element in found["text"]]
    assert texts[:7] == [
        "17 button",
        "27 lamp",
        "/dev/ttyS0 frames",
        "/dev/ttyS0 received",
        "i2c 1",
        "faults",
        "stdout",
    ]
    margin = int(found["svg"][0].get("width")) - 1010
    assert found["line"][0].get("d") == f"M{margin} 35H{margin + 25}V50H{margin + 750}V35H{margin + 1000}"
    assert len(found["busy"]) == 1
    assert [element.text for element in found["title"]] == [
        "'<OK>'",
        r"'<OK>\r\n'",
        "0x76 w d0 r 60",
        "stuck-line line 17",
        "\ufffd[1mbold\ufffd[0m & \ufffdtab",
    ]
    assert len(found["fault"]) == 1
    assert found["tick-label"][0].text == "0.00 s"


def test_svg_of_a_hundred_thousand_edges_stays_small(tmp_path):
    events = [LineChange(number * 1000, 17, number % 2, "program") for number in range(100_000)]
    found = svg(tmp_path, events)
    assert len(found["busy"]) <= 1001
    assert (tmp_path / "run.svg").stat().st_size < 100_000


@pytest.mark.parametrize("suffix", [".vcd", ".csv", ".json", ".svg"])
def test_an_empty_trace_and_one_with_a_single_event_can_be_written(tmp_path, suffix):
    write([], tmp_path / f"run{suffix}")
    write([LineChange(5, 17, 1, "program")], tmp_path / f"RUN{suffix.upper()}")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_window_keeps_the_levels_at_its_beginning(tmp_path):
    window = {"start_ns": 30 * MS, "end_ns": 55 * MS}
    _, signals = wavedrom(tmp_path, EVENTS, **window)
    assert (signals["17 button"]["wave"], signals["27"]["wave"]) == ("0" + "." * 79, "1" + "." * 79)
    write(EVENTS, tmp_path / "run.csv", **window)
    assert [row.split(",")[1] for row in (tmp_path / "run.csv").read_text().splitlines()] == [
        "kind",
        "serial",
        "frame",
        "i2c",
    ]
    write(EVENTS, tmp_path / "run.vcd", **window)
    text = (tmp_path / "run.vcd").read_text()
    assert '$dumpvars\n0!\n1"\n' in text
    with pytest.raises(ValueError, match="a window ends after it begins"):
        write(EVENTS, tmp_path / "run.csv", start_ns=5, end_ns=5)
