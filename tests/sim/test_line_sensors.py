"""Sensors and switches on lines: their pulses and levels are those of the datasheets, and wrong use shows."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest


def ask_dht(bench: Any, low: float) -> list[int]:
    """Ask a DHT on line 4 as a driver does, and return the bytes of its answer."""
    bench.board.line(4).claim("test", output=0)
    bench.wait(low)
    seen = bench.record(4)
    bench.board.line(4).claim("test", bias="up")
    bench.wait(0.01)
    highs = [round((end - begin) * 1e6) for (begin, level), (end, _) in pairwise(seen) if level == 1]
    assert set(highs[2:]) <= {26, 70}
    bits = "".join("1" if high > 48 else "0" for high in highs[2:])
    return [int(bits[place : place + 8], 2) for place in range(0, len(bits), 8)]


@pytest.mark.parametrize(
    ("name", "humidity", "temperature", "answer"),
    [
        ("dht22", 65.2, 35.1, "02 8C 01 5F EE"),  # AM2302 product manual, section 7, "for example"
        ("dht22", 65.2, -10.1, "02 8C 80 65 73"),  # the same, below freezing
        ("dht22", 0.0, 0.0, "00 00 00 00 00"),
        ("dht11", 53, 24, "35 00 18 00 4D"),  # DHT11 datasheet, "example"
    ],
)
def test_a_dht_answers_as_its_datasheet_says(
    bench: Any, name: str, humidity: float, temperature: float, answer: str
) -> None:
    bench.put(name, line=4, humidity=humidity, temperature=temperature)
    assert ask_dht(bench, 0.018) == list(bytes.fromhex(answer))


def test_a_dht_needs_a_long_start_signal_and_a_pull_up(bench: Any) -> None:
    sensor = bench.put("dht22", line=4)
    assert ask_dht(bench, 0.0005) == []
    bench.wait(2)
    assert len(ask_dht(bench, 0.001)) == 5
    assert (sensor.answers, bench.board.chip.short_circuits) == (1, 0)


def test_a_dht_that_is_read_again_within_two_seconds_gives_the_old_value(bench: Any) -> None:
    sensor = bench.put("dht22", line=4, temperature=20.0)
    first = ask_dht(bench, 0.001)
    sensor.temperature = 30.0
    bench.wait(1)
    assert ask_dht(bench, 0.001) == first
    bench.wait(2)
    assert ask_dht(bench, 0.001)[2:4] == [1, 44]
    assert (sensor.answers, sensor.too_early) == (3, 1)


def test_a_dht_sends_bad_checksums_on_demand(bench: Any) -> None:
    sensor = bench.put("dht11", line=4)
    sensor.bad_checksums = 1
    *values, checksum = ask_dht(bench, 0.02)
    assert checksum != sum(values) & 0xFF
    bench.wait(1)
    *values, checksum = ask_dht(bench, 0.02)
    assert checksum == sum(values) & 0xFF


@pytest.mark.parametrize(
    ("distance", "temperature", "width"),
    [(1.0, 20.0, 0.005824), (0.34, 15.0, 0.001998), (0.01, 20.0, 0.000116), (4.0, 20.0, 0.023296), (4.1, 20.0, 0.038)],
)
def test_an_echo_lasts_as_long_as_the_sound_takes(
    bench: Any, distance: float, temperature: float, width: float
) -> None:
    bench.put("hc-sr04", trigger=23, echo=24, distance=distance, temperature=temperature)
    bench.output(23)
    seen = bench.record(24)
    bench.set(23, 1, hold=10e-6)
    bench.set(23, 0, hold=0.06)
    [(rises, high), (falls, low)] = seen
    assert (high, low, rises) == (1, 0, pytest.approx(460e-6))
    assert falls - rises == pytest.approx(width, rel=0.005)


def test_a_short_trigger_and_one_during_a_measurement_have_no_effect(bench: Any) -> None:
    sensor = bench.put("hc-sr04", trigger=23, echo=24)
    bench.output(23)
    bench.set(23, 1, 0, hold=5e-6)
    assert (sensor.measurements, sensor.ignored) == (0, 1)
    bench.set(23, 1, 0, hold=20e-6)
    bench.set(23, 1, 0, hold=0.002)
    assert (sensor.measurements, sensor.ignored) == (1, 2)


def test_driving_the_echo_line_is_a_short_circuit(bench: Any, caplog: pytest.LogCaptureFixture) -> None:
    bench.put("hc-sr04", trigger=23, echo=24)
    bench.output(24, level=1)
    assert "driven low by the echo of the HC-SR04 on line 24 and high by the program's output 24" in caplog.text


@pytest.mark.parametrize("steps", [1, -1, 3, -20])
@pytest.mark.parametrize("bounce", [0.0, 0.002])
def test_an_encoder_counts_its_detents(bench: Any, steps: int, bounce: float) -> None:
    knob = bench.put("rotary-encoder", a=17, b=27, switch=22, bounce=bounce)
    bench.input(17, 27)
    levels, changes = {17: 1, 27: 1}, list[tuple[float, int, int]]()
    for line in levels:
        bench.board.line(line).observe(lambda level, ns, line=line: changes.append((ns, line, level)))
    knob.turn(steps)
    bench.wait(1)
    assert knob.position == steps
    position, last = 0, 0
    ring = {(1, 1): 0, (0, 1): 1, (0, 0): 2, (1, 0): 3}
    for _, line, level in changes:
        levels[line] = level
        now = ring[levels[17], levels[27]]
        position += (now - last + 1) % 4 - 1
        last = now
    assert position == 4 * steps
    assert len(changes) == 4 * abs(steps) if not bounce else len(changes) > 4 * abs(steps)


def test_the_switch_of_an_encoder_is_pressed_and_released(bench: Any) -> None:
    knob = bench.put("rotary-encoder", a=17, b=27, switch=22)
    seen = bench.record(22)
    knob.press()
    knob.release()
    assert [level for _, level in seen] == [0, 1]
    bare = bench.put("rotary-encoder", a=5, b=6)
    with pytest.raises(ValueError, match="has no switch; give it the key switch"):
        bare.press()
    with pytest.raises(ValueError, match="bounce must be shorter than a quarter of step_time"):
        bench.put("rotary-encoder", a=12, b=13, bounce=0.01)


@pytest.mark.parametrize(
    ("keys", "levels"),
    [
        ({}, [1, 0, 1]),
        ({"normally_closed": True}, [0, 1, 0]),
        ({"near": True}, [0, 0, 1]),
    ],
)
def test_a_magnet_moves_a_reed_switch(bench: Any, keys: dict[str, Any], levels: list[int]) -> None:
    switch, line = bench.put("reed-switch", line=17, resistor=True, **keys), bench.board.line(17)
    seen = [line.level]
    switch.approach()
    seen.append(line.level)
    switch.leave()
    seen.append(line.level)
    assert seen == levels


def test_a_reed_switch_bounces(bench: Any) -> None:
    switch, seen = bench.put("reed-switch", line=17, resistor=True, bounce=0.0005), bench.record(17)
    switch.approach()
    bench.wait(0.1)
    assert len(seen) >= 3
    assert seen[-1][1] == 0
    assert seen[-1][0] <= 0.0005


def test_a_flow_meter_pulses_with_the_flow(bench: Any) -> None:
    meter, seen = bench.put("flow-meter", line=17, rate=8.0), bench.record(17)
    bench.wait(60)
    assert meter.pulses == 3600  # YF-S201: 60 Hz at 8 litres a minute
    assert meter.litres == pytest.approx(8)
    rises = [when for when, level in seen if level]
    assert rises[1] - rises[0] == pytest.approx(1 / 60)
    meter.rate = 0
    bench.wait(60)
    assert meter.pulses == 3600
    meter.rate = 4.0
    bench.wait(30)
    assert meter.litres == pytest.approx(10, abs=0.01)


def test_a_flow_that_changes_often_loses_nothing(bench: Any) -> None:
    meter = bench.put("flow-meter", line=17)
    for _ in range(600):
        meter.rate = 1.0
        bench.wait(0.1)
    assert meter.pulses == pytest.approx(450, abs=1)


def test_a_photoresistor_charges_its_capacitor_when_the_program_lets_go(bench: Any) -> None:
    """3 kΩ and 1 µF: R·C·ln(3.3/1.5) = 2.37 ms."""
    sensor, line = bench.put("photoresistor", line=17, resistance=3000.0), bench.board.line(17)
    assert line.level == 1
    line.claim("program", output=0)
    bench.wait(0.1)
    assert line.level == 0
    line.claim("program")
    bench.wait(0.0023)
    assert line.level == 0
    bench.wait(0.0001)
    assert line.level == 1
    sensor.resistance = 100_000.0
    line.claim("program", output=0)
    line.claim("program")
    bench.wait(0.078)
    assert line.level == 0
    bench.wait(0.001)
    assert line.level == 1
