"""Playing scenarios: each kind of step does what it says, at its time."""

from __future__ import annotations

import asyncio
import math
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from firmware_sim.devices.modbus import crc16
from hwloop import gpio, i2c, serial
from hwloop.recording import Recorder, RecordingFile
from hwloop.testing.scenario import (
    Expect,
    Press,
    Result,
    Scenario,
    ScenarioError,
    ScenarioFailure,
    Stop,
    parse,
    play,
)
from hwloop.trace_events import FaultChange, Printed, SerialData


async def lamp_follows_door(delay: float = 0.0) -> None:
    async with gpio.watch(17, pull="up", active_low=True) as door, gpio.output(27) as lamp:
        async for edge in door:
            await asyncio.sleep(delay)
            lamp.set(edge.value)
            print("opened" if edge.value else "closed")


def test_a_scenario_passes_where_the_program_does_what_is_expected(bench: Any) -> None:
    result = bench(
        """
        { at = "1s", press = "door" },
        { expect = "lamp.lit", within = "100ms" },
        { after = 2, release = "door" },
        { expect = "lamp.lit", equals = false },
        """,
        lamp_follows_door(0.05),
    )
    assert result.passed
    assert (result.steps, result.expectations) == (4, 2)
    assert bench.edges(17, "button") == [(1.0, 0), (3.05, 1)]
    assert bench.edges(27) == [(1.05, 1), (3.1, 0)]


def test_an_event_at_the_very_deadline_is_in_time(bench: Any) -> None:
    steps = '{ at = 1, press = "door" }, { expect = "lamp.lit", within = "50ms" }'
    assert bench(steps, lamp_follows_door(0.05)).passed


def test_an_event_after_the_deadline_is_not_in_time(bench: Any) -> None:
    steps = '{ at = 1, press = "door" }, { expect = "lamp.lit", within = "49ms" }'
    with pytest.raises(ScenarioFailure) as failure:
        bench(steps, lamp_follows_door(0.05))
    message = str(failure.value)
    assert message.startswith("test.toml: expect lamp.lit is true: not met within 49 ms (test.toml:2)\n")
    assert "begun at     1.000000 s\n" in message
    assert "instead     lamp.lit is false; it was met 1 ms too late\n" in message
    assert "17 door" in message, "the waveform shows the door's line"
    assert "1.049000 s" in message


def test_an_expectation_without_a_time_has_that_of_the_scenario(bench: Any) -> None:
    steps = 'steps = [{ press = "door" }, { expect = "lamp.lit" }]'
    assert bench(parse(steps), lamp_follows_door(0.9)).passed
    with pytest.raises(ScenarioFailure, match="not met within 500 ms"):
        bench(parse(f"within = '500ms'\n{steps}"), lamp_follows_door(0.9))


def test_a_value_must_stay_right_for_as_long_as_it_says(bench: Any) -> None:
    steps = '{ press = "door" }, { expect = "lamp.lit", holds = "2s" }'
    assert bench(steps, lamp_follows_door()).passed
    steps = '{ click = "door", hold = "500ms" }, { expect = "lamp.lit", holds = "2s" }'
    with pytest.raises(ScenarioFailure, match="not so any more after 500 ms"):
        bench(steps, lamp_follows_door())


def test_a_step_that_comes_too_late_for_its_time_fails(bench: Any) -> None:
    steps = '{ press = "door" }, { expect = "lamp.lit" }, { at = "500ms", release = "door" }'
    with pytest.raises(
        ScenarioFailure, match=r"release door: due 400 ms ago, but the step before it has ended only now"
    ):
        bench(steps, lamp_follows_door(0.9))


def test_a_click_is_a_press_and_a_release(bench: Any) -> None:
    assert bench('{ at = 1, click = "door" }, { after = 1, click = "door", hold = "5ms" }', lamp_follows_door()).passed
    assert bench.edges(17, "button") == [(1.0, 0), (1.2, 1), (2.0, 0), (2.005, 1)]


def test_the_scenario_lasts_until_everything_that_it_has_begun_is_over(bench: Any) -> None:
    result = bench('{ click = "door", hold = "3s" }')
    assert result.end_ns - result.start_ns == 3_000_000_000
    assert not bench.board["door"].pressed


def test_a_line_is_driven_from_outside_and_released(bench: Any) -> None:
    assert bench('{ set = "line 22", to = 1 }, { wait = 1 }, { release = "line 22" }').passed
    assert bench.edges(22) == [(0.0, 1), (1.0, 0)]


def test_pulses_have_their_period_and_width(bench: Any) -> None:
    bench('{ at = 1, pulses = "line 22", count = 3, period = "10ms", width = "2ms" }')
    assert bench.edges(22) == [(1.0, 1), (1.002, 0), (1.01, 1), (1.012, 0), (1.02, 1), (1.022, 0)]


def test_an_encoder_turns_as_the_encoder_of_gpio_counts(bench: Any) -> None:
    counted = []

    async def count() -> None:
        async with gpio.encoder(5, 6, resolution=1, pull="up") as knob:
            async for steps in knob:
                counted.append(steps)
                assert knob.invalid == 0

    bench('{ turn = ["line 5", "line 6"], steps = 3 }, { after = 1, turn = ["line 5", "line 6"], steps = -4 }', count())
    assert counted[2:] == [3, 2, 1, 0, -1] or counted == [1, 2, 3, 2, 1, 0, -1]


def test_values_take_courses(bench: Any) -> None:
    readings = []

    async def read() -> None:
        while True:
            readings.append(bench.board["air"].temperature)
            await asyncio.sleep(1)

    bench(
        """
        { set = "air.temperature", to = 20 },
        { ramp = "air.temperature", to = 30, over = "4s", every = "500ms" },
        { at = "5s", sine = "air.temperature", amplitude = 5, period = "4s", over = "4s" },
        { wait = "4s" },
        """,
        read(),
    )
    assert readings[1:9] == pytest.approx([22.5, 25, 27.5, 30, 30, 35, 30, 25])
    assert bench.board["air"].temperature == 30


def test_a_sine_returns_to_the_middle_when_its_time_is_over(bench: Any) -> None:
    assert bench('{ sine = "air.humidity", amplitude = 5, period = "4s", over = "1s" }').passed
    assert bench.board["air"].humidity == 45


def test_a_sine_without_an_end_ends_with_the_scenario(bench: Any) -> None:
    assert bench('{ sine = "air.humidity", amplitude = 5, period = "4s" }, { wait = "1s" }').passed
    assert bench.board["air"].humidity == pytest.approx(50, abs=0.1)


@pytest.mark.parametrize(
    "table",
    [
        "seconds,temperature\n0,10\n1.5,11\n4,12\n",
        "time,temperature\n2026-11-29T10:00:00,10\n2026-11-29T10:00:01.500,11\n2026-11-29T10:00:04,12\n",
        "time,temperature\n2026-11-29 10:00:00+02:00,10\n2026-11-29T08:00:01.5Z,11\n2026-11-29 10:00:04+02:00,12\n",
    ],
)
def test_a_value_follows_a_file(bench: Any, tmp_path: Path, table: str) -> None:
    (tmp_path / "day.csv").write_text(table)
    scenario = parse(
        'steps = [{ at = 1, follow = "air.temperature", csv = "day.csv", speed = 2 }]', f"{tmp_path}/s.toml"
    )
    readings = []

    async def read() -> None:
        while True:
            readings.append(bench.board["air"].temperature)
            await asyncio.sleep(0.25)

    bench(scenario, read())
    assert readings[4:13] == [10, 10, 10, 11, 11, 11, 11, 11, 12][: len(readings[4:13])]
    assert bench.board["air"].temperature == 12


def test_a_value_that_a_part_rejects_fails_the_step(bench: Any) -> None:
    with pytest.raises(ScenarioFailure, match=r"ramp air.temperature to 100 over 1 s: failed: .*-40 to 85"):
        bench('{ ramp = "air.temperature", to = 100, over = "1s" }, { wait = "5s" }')


async def echo(count: int) -> None:
    async with serial.open("/dev/ttyUSB0", 19200, framing=serial.Raw()) as port:
        while True:
            frame = await anext(port)
            for _ in range(count):
                port.write(frame.data.upper())
            await asyncio.sleep(0.1)


def test_bytes_are_sent_and_expected(bench: Any) -> None:
    result = bench(
        """
        { at = 1, send = "/dev/ttyUSB0", text = "hello" },
        { expect_sent = "/dev/ttyUSB0", text = "HE" },
        { expect_sent = "boiler", text = "LLO" },
        { after = 1, send = "boiler", hex = "61 62" },
        { expect_sent = "boiler", hex = "4142" },
        """,
        echo(1),
    )
    assert result.passed


def test_bytes_that_have_met_an_expectation_do_not_meet_the_next_one(bench: Any) -> None:
    steps = '{ at = 1, send = "boiler", text = "a" }' + 2 * ', { expect_sent = "boiler", text = "A" }'
    assert bench(steps, echo(2)).passed
    with pytest.raises(ScenarioFailure, match=r"expect 'A' on boiler: not met within 1 s"):
        bench(steps, echo(1))


def test_frames_are_wrapped_as_their_protocol_wants(bench: Any) -> None:
    bench(
        """
        { send = "boiler", text = "GPRMC,1", frame = "nmea" },
        { after = 1, send = "boiler", hex = "01 04", frame = "modbus", baudrate = 9600 },
        { after = 1, send = "boiler", text = "ok", frame = "line" },
        """
    )
    data = bench.trace.data("/dev/ttyUSB0", "received")
    assert data == b"$GPRMC,1*56\r\n" + b"\x01\x04" + crc16(b"\x01\x04") + b"ok\r\n"


def test_the_lines_of_a_log_are_sent_one_by_one(bench: Any, tmp_path: Path) -> None:
    (tmp_path / "walk.nmea").write_text("# a walk\n$A\n\n$B\n$C\n")
    scenario = parse('steps = [{ send = "boiler", log = "walk.nmea", every = "500ms" }]', str(tmp_path / "s.toml"))
    bench(scenario)
    sent = [(time, event.data) for time, event in bench.times(SerialData)]
    assert sent == [(0.0, b"$A\r\n"), (0.5, b"$B\r\n"), (1.0, b"$C\r\n")]


def test_transfers_are_expected(bench: Any) -> None:
    async def read() -> None:
        async with i2c.open(1) as bus:
            await asyncio.sleep(1)
            await bus.device(0x76).read_register(0xD0)
            with pytest.raises(OSError, match="0x40"):
                await bus.device(0x40).read_register(0)

    result = bench(
        """
        { expect_transfer = "air", writes = "d0", reads = "60", within = "2s" },
        { expect_transfer = "i2c 1 0x40", error = "EREMOTEIO" },
        """,
        read(),
    )
    assert result.passed
    with pytest.raises(ScenarioFailure, match=r"there were 1 other transfers with it\n.*0x76 w d0 r 60"):
        bench('{ expect_transfer = "air", writes = "d0", reads = "61", within = "2s" }', read())


def test_a_transfer_that_fails_is_not_what_is_expected(bench: Any) -> None:
    async def read() -> None:
        async with i2c.open(1) as bus:
            with pytest.raises(OSError, match="0x40"):
                await bus.device(0x40).read_register(0)

    with pytest.raises(ScenarioFailure, match=r"there were 1 other transfers with it\n.*EREMOTEIO"):
        bench('{ expect_transfer = "i2c 1 0x40" }', read())


def test_output_is_expected_in_its_order(bench: Any) -> None:
    both = '{ click = "door", hold = "100ms" }, { expect_output = "opened" }, { expect_output = "cl.s", regex = true }'
    assert bench(both, lamp_follows_door()).passed
    assert [event.text for event in bench.trace.of(Printed)] == ["opened", "closed"]
    wrong = '{ click = "door", hold = "100ms" }, { expect_output = "closed" }, { expect_output = "opened" }'
    with pytest.raises(ScenarioFailure, match="expect output 'opened': not met within 1 s"):
        bench(wrong, lamp_follows_door())


def test_an_event_from_before_an_action_is_not_its_effect(bench: Any) -> None:
    before = '{ click = "door", hold = "100ms" }, { wait = "1s" }'
    assert bench(f'{before}, {{ expect_output = "opened" }}', lamp_follows_door()).passed
    with pytest.raises(ScenarioFailure, match="expect output 'opened': not met within 1 s"):
        bench(f'{before}, {{ set = "line 22", to = 1 }}, {{ expect_output = "opened" }}', lamp_follows_door())


def test_silence_begins_when_the_step_does(bench: Any) -> None:
    steps = '{ click = "door", hold = "100ms" }, { wait = "1s" }, { expect_quiet = "lamp", during = "1s" }'
    assert bench(steps, lamp_follows_door()).passed


def test_any_order_is_met_in_any_order(bench: Any) -> None:
    steps = """
        { click = "door", hold = "100ms" },
        { any_order = [ { expect_output = "closed" }, { expect_edges = "lamp", edge = "rising" } ] },
        { expect_quiet = "output", during = "1s" },
    """
    assert bench(steps, lamp_follows_door()).passed


def test_silence_ends_with_the_first_event(bench: Any) -> None:
    steps = """
        { click = "door", hold = "500ms" },
        { expect_output = "opened" },
        { expect_quiet = "output", text = "opened", during = "1s" },
    """
    assert bench(steps, lamp_follows_door()).passed
    steps = '{ click = "door", hold = "500ms" }, { expect_output = "opened" }, { expect_quiet = "lamp", during = "1s" }'
    with pytest.raises(ScenarioFailure, match="not so any more after 500 ms") as failure:
        bench(steps, lamp_follows_door())
    assert "there was one: line 27 falls" in str(failure.value)


@pytest.mark.parametrize("target", ["/dev/ttyUSB0", "boiler", "air", "i2c 1 0x76", "line 4"])
def test_silence_is_kept_everywhere_by_a_program_that_does_nothing(bench: Any, target: str) -> None:
    assert bench(f'{{ expect_quiet = "{target}", during = "10s" }}').passed


def test_repeated_steps_have_their_own_time(bench: Any) -> None:
    bench(
        """
        { at = 1, repeat = 3, every = "2s", steps = [
            { press = "door" },
            { at = "500ms", release = "door" },
        ] },
        { after = 1, press = "door" },
        """,
        lamp_follows_door(),
    )
    assert bench.edges(17, "button") == [(1.0, 0), (1.5, 1), (3.0, 0), (3.5, 1), (5.0, 0), (5.5, 1), (6.5, 0)]


def test_a_turn_that_takes_longer_than_every_fails(bench: Any) -> None:
    with pytest.raises(ScenarioFailure, match="turn 2 was due 500 ms ago"):
        bench('{ repeat = 2, every = "1s", steps = [ { wait = "1500ms" } ] }')


def test_a_method_of_a_part_is_called(bench: Any) -> None:
    bench('{ at = 1, call = "door.press" }')
    assert bench.board["door"].pressed


def test_faults_begin_and_end(bench: Any) -> None:
    bench(
        """
        { at = 1, fault = "stuck-line", line = 22, level = 1 },
        { at = 2, end_fault = "stuck-line" },
        { at = 3, fault = "stuck-line", line = 22, level = 1, duration = "500ms" },
        { wait = 1 },
        """
    )
    changes = [(time, event.begins) for time, event in bench.times(FaultChange)]
    assert changes == [(1.0, True), (2.0, False), (3.0, True), (3.5, False)]


def test_the_inputs_of_a_recording_are_replayed(bench: Any, tmp_path: Path) -> None:
    recorder = Recorder(RecordingFile(tmp_path / "run.hwlog"))
    steps = '{ at = 1, click = "door" }, { after = 1, send = "boiler", text = "hello" }, { wait = 1 }'
    bench(steps, lamp_follows_door(), recorder=recorder)
    recorder.close()
    recorded = bench.edges(17, "button"), bench.edges(27)
    scenario = 'steps = [{ at = 2, replay = "run.hwlog", speed = 2, only = ["line 17", "boiler"] }]'
    bench(parse(scenario, str(tmp_path / "s.toml")), lamp_follows_door())
    assert bench.edges(17, "button") == [(2 + time / 2, level) for time, level in recorded[0]]
    assert bench.edges(27) == [(2 + time / 2, level) for time, level in recorded[1]]
    assert [time for time, _ in bench.times(SerialData)] == [3.0]
    bench(parse('steps = [{ replay = "run.hwlog" }]', str(tmp_path / "s.toml")))
    assert bench.edges(27) == [], "the program's own edges are no inputs"


def test_python_and_toml_make_the_same_objects() -> None:
    text = 'steps = [{ at = "1s", press = "door" }, { expect = "lamp.lit", within = "100ms" }]'
    assert parse(text) == Scenario([Press("door", at=1.0), Expect("lamp.lit", within=0.1)])


def test_a_step_in_python_that_does_not_fit_the_board_names_its_number(bench: Any) -> None:
    with pytest.raises(ScenarioError, match=r"^scenario: step 2 \(press door2\): press: no device 'door2' on bench"):
        bench(Scenario([Press("door"), Press("door2")]))


def test_stopping_the_program_is_not_for_tests(bench: Any) -> None:
    with pytest.raises(ScenarioError, match="stop: is for hwloop sim"):
        bench(Scenario([Stop("SIGTERM")]))


def test_the_board_has_its_tracer_back_afterwards(bench: Any) -> None:
    bench('{ press = "door" }')
    assert bench.board.tracer is bench.board.timeline.tracer is bench.trace


def test_a_cancelled_scenario_does_nothing_more() -> None:
    clock = hwloop.VirtualClock()
    with SimBoard({"device": [{"type": "button", "line": 17, "name": "door"}]}, clock=clock) as board:

        async def main() -> None:
            playing = asyncio.create_task(play(board, parse('steps = [{ at = 1, press = "door" }]')))
            await asyncio.sleep(0.5)
            playing.cancel()
            await asyncio.wait([playing])
            await asyncio.sleep(1)
            assert not board["door"].pressed

        hwloop.run(main(), board=board, clock=clock)


def test_nothing_of_a_scenario_goes_on_after_its_end() -> None:
    clock = hwloop.VirtualClock()
    with SimBoard({"device": [{"type": "bme280", "name": "air"}]}, clock=clock) as board:

        async def main() -> None:
            await play(
                board, parse('steps = [{ sine = "air.humidity", amplitude = 5, period = "4s" }, { wait = "1s" }]')
            )
            humidity = board["air"].humidity
            await asyncio.sleep(1)
            assert board["air"].humidity == humidity

        hwloop.run(main(), board=board, clock=clock)


def test_a_long_scenario_costs_little(bench: Any) -> None:
    result = bench('{ repeat = 500, every = "1h", steps = [ { click = "door" } ] }')
    assert result.steps == 500
    assert (result.end_ns - result.start_ns) / 1e9 == pytest.approx(499 * 3600 + 0.2)
    assert math.isfinite(result.end_ns)


def test_a_board_in_real_time_plays_too() -> None:
    with SimBoard({"device": [{"type": "button", "line": 17, "name": "door"}]}) as board:

        async def main() -> Result:
            return await play(board, parse('steps = [{ at = "20ms", press = "door" }, { expect = "door.pressed" }]'))

        assert hwloop.run(main(), board=board).passed
