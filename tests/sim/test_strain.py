"""Short circuits and overloads: counted each time, logged once with the names of those that are connected."""

from __future__ import annotations

from typing import Any

import pytest


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "firmware_sim"]


def test_an_output_against_a_part_is_a_short_circuit_that_names_both(
    bench: Any, caplog: pytest.LogCaptureFixture
) -> None:
    bench.put("pir", line=17).motion()
    bench.output(17)
    assert bench.board.chip.short_circuits == 1
    [text] = messages(caplog)
    assert text.startswith(
        "short circuit: line 17 is driven low by the program's output 17 and high by the motion sensor on line 17; "
    )


def test_two_outputs_that_a_wire_joins_are_named_both(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench.put("wire", lines=[22, 23])
    bench.output(22, level=1)
    bench.output(23, level=0)
    [text] = messages(caplog)
    assert "line 22+23 is driven low by the program's output 23 and high by the program's output 22; " in text


def test_an_open_drain_output_that_is_high_drives_nothing(bench: Any) -> None:
    bench.put("pir", line=17)  # drives low
    bench.board.line(17).claim("test", output=1, drive="open-drain")
    assert bench.board.chip.short_circuits == 0


@pytest.mark.parametrize(
    ("keys", "level", "text"),
    [
        ({}, 1, ""),
        ({"resistor": 0}, 1, "overload: the LED on line 17 draws 29 mA from line 17, and a pin gives 16 mA; "),
        ({"resistor": 0}, 0, ""),
        ({"resistor": 0, "active_low": True}, 0, "overload: the LED on line 17 draws 29 mA"),
        ({"resistor": 0, "active_low": True}, 1, ""),
    ],
)
def test_an_led_needs_a_resistor(
    bench: Any, caplog: pytest.LogCaptureFixture, keys: dict[str, Any], level: int, text: str
) -> None:
    bench.put("led", line=17, **keys)
    bench.output(17, level=level)
    assert messages(caplog) == [] if not text else messages(caplog)[0].startswith(text)
    assert bench.board.chip.strain.overloads == bool(text)


def test_all_pins_together_have_a_limit_too(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    for line in (17, 18, 19, 20):
        bench.put("led", line=line, resistor=50)
        bench.output(line, level=1)
    assert bench.board.chip.strain.overloads == 1
    assert messages(caplog) == [
        "overload: parts draw 55 mA together (14 mA from line 17, 14 mA from line 18, 14 mA from line 19, "
        "14 mA from line 20), and all pins give 50 mA; use larger resistors or a driver"
    ]


def test_an_overload_is_counted_each_time_and_logged_once(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench.put("led", line=17, resistor=0)
    bench.output(17)
    bench.set(17, 1, 0, 1, 1, 0)
    assert bench.board.chip.strain.overloads == 2
    assert len(messages(caplog)) == 1
