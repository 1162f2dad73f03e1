"""Parts on the inputs of an ADC: their voltages follow their positions."""

from __future__ import annotations

from typing import Any

import pytest

from firmware_sim import SimBoard, WiringError

ADC = {"type": "ads1115", "name": "adc"}


def made(*entries: dict[str, Any]) -> SimBoard:
    return SimBoard({"device": list(entries)})


@pytest.mark.parametrize("adc_first", [True, False])
def test_a_potentiometer_sets_the_voltage_of_an_input(adc_first: bool) -> None:
    knob = {"type": "potentiometer", "name": "knob", "adc": "adc", "channel": 2, "position": 0.25}
    with made(*((ADC, knob) if adc_first else (knob, ADC))) as board:
        assert board["adc"].inputs == pytest.approx([0, 0, 0.825, 0])
        board["knob"].position = 1
        assert board["adc"].inputs[2] == pytest.approx(3.3)
        with pytest.raises(ValueError, match=r"position must be 0 to 1 of the way, not 1\.5"):
            board["knob"].position = 1.5
        assert board["adc"].inputs[2] == pytest.approx(3.3)


def test_a_sensor_has_voltages_of_its_own_at_its_ends() -> None:
    probe = {"type": "potentiometer", "name": "soil", "adc": "adc", "low": 2.8, "high": 1.2, "position": 0.5}
    with made(ADC, probe) as board:
        assert board["adc"].inputs[0] == pytest.approx(2.0)


def test_a_joystick_has_two_axes_and_a_switch() -> None:
    with made(ADC, {"type": "joystick", "name": "stick", "adc": "adc", "switch": 17}) as board:
        stick = board["stick"]
        assert board["adc"].inputs[:2] == pytest.approx([1.65, 1.65])
        stick.move(1, -1)
        assert board["adc"].inputs[:2] == pytest.approx([3.3, 0])
        board.line(17).pull("up")
        stick.press()
        assert (board.line(17).level, stick.pressed) == (0, True)
        stick.release()
        assert (board.line(17).level, stick.pressed) == (1, False)


@pytest.mark.parametrize(
    ("entries", "text"),
    [
        (
            [{"type": "potentiometer", "adc": "adc"}],
            "the part 'adc' does not exist; add one, such as type = \"ads1115\"",
        ),
        ([{**ADC, "name": "a"}, {"type": "potentiometer", "adc": "b"}], "the part 'b' does not exist; name one of a"),
        ([{"type": "led", "line": 4, "name": "adc"}, {"type": "potentiometer", "adc": "adc"}], "is no ADC"),
        ([ADC, {"type": "potentiometer", "adc": "adc", "channel": 4}], "channel 4: adc has the inputs 0 to 3"),
        ([ADC, {"type": "joystick", "adc": "adc", "y_channel": 0}], "must be two inputs, not both 0"),
    ],
)
def test_a_missing_input_is_an_error_that_says_what_to_do(entries: list[dict[str, Any]], text: str) -> None:
    with pytest.raises(WiringError) as caught:
        made(*entries)
    assert text in str(caught.value)


def test_a_joystick_without_a_switch_can_not_be_pressed() -> None:
    with (
        made(ADC, {"type": "joystick", "name": "stick", "adc": "adc"}) as board,
        pytest.raises(ValueError, match="switch"),
    ):
        board["stick"].press()
