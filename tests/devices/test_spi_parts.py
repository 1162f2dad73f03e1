"""The parts on an SPI bus, against their datasheets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gpiozero
import pytest

import hwloop
from firmware_sim import SimBoard, WiringError
from firmware_sim.mifare import checked, crc_a
from firmware_sim.spi import Mode, Segment
from hwloop.pins import SimFactory


class Rig:
    """A board in virtual time with one part."""

    def __init__(self, kind: str, **keys: Any) -> None:
        self.clock = hwloop.VirtualClock()
        self.board = SimBoard({"device": [{"type": kind, "name": "part", **keys}]}, clock=self.clock)
        self.part = self.board["part"]
        self.speed = 1_000_000

    def exchange(self, data: bytes | str, mode: int = 0, select: int = 0) -> bytes:
        sent = bytes.fromhex(data) if isinstance(data, str) else data
        return self.board.spi(0).transfer(select, [Segment(sent, self.speed)], mode)[0]

    def wait(self, seconds: float) -> None:
        self.clock.sleep(seconds)


Make = Callable[..., Rig]


@pytest.fixture
def make():
    rigs = []

    def make_rig(kind, **keys):
        rigs.append(Rig(kind, **keys))
        return rigs[-1]

    yield make_rig
    for rig in rigs:
        rig.board.close()


# Digital potentiometers.


def test_a_digital_pot_takes_its_commands_and_answers_a_read(make: Make) -> None:
    rig = make("mcp4251")
    assert (rig.part.wiper0, rig.part.wiper1) == (128, 128)  # half way after power-on
    assert rig.exchange("0040").hex() == "ffff"
    assert rig.exchange("1100").hex() == "ffff"  # the ninth bit of the data is in the command byte
    assert (rig.part.wiper0, rig.part.wiper1) == (64, 256)
    assert rig.exchange("0c00").hex() == "fe40"
    assert rig.exchange("1c00").hex() == "ff00"
    rig.exchange("040404")  # three increments in one selection
    rig.exchange("18")
    rig.exchange("14 14".replace(" ", ""))
    assert (rig.part.wiper0, rig.part.wiper1) == (67, 256)
    assert rig.exchange("4c00").hex() == "ffff"  # TCON: all terminals are connected
    rig.part.reset()
    assert rig.part.wiper0 == 128


def test_a_digital_pot_answers_an_unknown_command_with_zeros_and_ignores_the_rest(make: Make) -> None:
    rig = make("mcp4131")
    assert rig.exchange("1080").hex() == "fc00"  # it has no second wiper
    assert rig.exchange("5010").hex() == "fc00"  # its status can't be written
    assert rig.part.wiper0 == 64
    rig.exchange("0000")
    rig.exchange("08")
    assert rig.part.wiper0 == 0


def test_a_digital_pot_sets_the_inputs_of_an_adc() -> None:
    pot = {"type": "mcp4251", "adc": "adc", "channel": 2, "high": 2.0}
    with SimBoard({"device": [pot, {"type": "mcp3008", "name": "adc", "select": 1}]}) as board:
        assert board["adc"].inputs[2:4] == [1.0, 1.0]
        board.spi(0).transfer(0, [Segment(b"\x10\x40", 50_000)], 0)
        assert board["adc"].inputs[2:4] == [1.0, 0.5]
    with pytest.raises(WiringError, match="has the inputs 0 to 7"):
        SimBoard({"device": [{**pot, "channel": 7}, {"type": "mcp3008", "name": "adc", "select": 1}]})


# MCP3008 and its relatives.


def read_adc(rig: Rig, command: str, bits: int = 10) -> int:
    return int.from_bytes(rig.exchange(command)) & (1 << bits) - 1


@pytest.mark.parametrize(
    ("volts", "code"), [(0.0, 0), (1.65, 512), (3.29, 1020), (3.3, 1023), (5.0, 1023), (-0.2, 0), (3.3 / 1024 * 7.5, 7)]
)
def test_the_code_of_an_mcp3008_is_the_voltage_as_a_part_of_the_reference(make: Make, volts: float, code: int) -> None:
    assert read_adc(make("mcp3008", inputs=[0.0, 0.0, volts]), "01a000") == code


def test_each_of_this_family_answers_where_its_datasheet_has_it(make: Make) -> None:
    volts = [number * 0.3 for number in range(8)]
    for number in range(8):
        assert read_adc(make("mcp3008", inputs=volts), f"01{0x80 | number << 4:02x}00") == int(
            volts[number] / 3.3 * 1024
        )
        command = (0b11000 | number) << 14
        assert read_adc(make("mcp3208", inputs=volts), f"{command:06x}", 12) == int(volts[number] / 3.3 * 4096)
    for number in range(4):
        assert read_adc(make("mcp3004", inputs=volts[:4]), f"01{0x80 | number << 4:02x}00") == int(
            volts[number] / 3.3 * 1024
        )
    for number in range(2):
        assert read_adc(make("mcp3002", inputs=volts[1:3]), f"{0x68 | number << 4:02x}00") == int(
            volts[number + 1] / 3.3 * 1024
        )
        assert read_adc(make("mcp3202", inputs=volts[1:3]), f"01{0xA0 | number << 6:02x}00", 12) == int(
            volts[number + 1] / 3.3 * 4096
        )
    assert read_adc(make("mcp3204", inputs=volts[:4]), f"{0b11011 << 14:06x}", 12) == int(volts[3] / 3.3 * 4096)


def test_an_mcp3008_measures_the_difference_of_a_pair(make: Make) -> None:
    rig = make("mcp3008", inputs=[2.0, 0.35])
    assert read_adc(rig, "010000") == 512
    assert read_adc(rig, "011000") == 0  # the other way round it would be negative


def test_the_null_bit_precedes_the_code_and_the_lowest_bit_comes_again_first(make: Make) -> None:
    rig = make("mcp3008", inputs=[3.3 * 0b1100000001 / 1024 + 0.001])
    assert rig.exchange(b"\x01\x80\x00\x00\x00\x00").hex() == "000301018000"


def test_an_mcp3002_repeats_its_code_only_if_asked(make: Make) -> None:
    rig = make("mcp3002", inputs=[3.3 * 0b1100000001 / 1024 + 0.001])
    assert rig.exchange(b"\x68\x00\x00").hex() == "030100"
    assert rig.exchange(b"\x60\x00\x00\x00").hex() == "03010180"


def test_it_waits_for_a_start_bit_and_begins_anew_with_each_selection(make: Make) -> None:
    rig = make("mcp3008", inputs=[1.65])
    assert rig.exchange(b"\x00\x00\x00") == b"\0\0\0"
    rig.exchange(b"\x01\x80")
    assert read_adc(rig, "00000001 8000".replace(" ", "")) == 512
    assert rig.part.conversions == 2


def test_a_clock_that_is_too_fast_for_the_supply_garbles_the_code(make: Make) -> None:
    rig = make("mcp3008", inputs=[1.0], supply=2.7)
    rig.speed = 1_350_000
    assert read_adc(rig, "018000") == 310
    rig.speed = 1_350_001
    assert read_adc(rig, "018000") != 310
    rig = make("mcp3008", inputs=[1.0], supply=5.0)
    rig.speed = 3_600_000
    assert read_adc(rig, "018000") == 310


@pytest.mark.filterwarnings("ignore::gpiozero.SPISoftwareFallback")
def test_a_program_may_switch_the_lines_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    board = SimBoard({"device": [{"type": "mcp3008", "inputs": [1.65, 0.5]}, {"type": "max31855", "select": 1}]})
    with board, SimFactory(board=board) as factory:
        monkeypatch.setattr(gpiozero.Device, "pin_factory", factory)
        with gpiozero.MCP3008(1) as adc:
            assert "clock_pin=" in repr(adc)
            assert adc.raw_value == int(0.5 / 3.3 * 1024)
        with factory.spi(port=0, device=1) as chip:
            assert bytes(chip.read(4)).hex() == "06401900"
        assert not board.spi(0).transfers


def test_two_parts_do_not_share_a_select_line() -> None:
    with pytest.raises(WiringError, match="SPI bus 0: select 0 is used already, by "):
        SimBoard({"device": [{"type": "mcp3008"}, {"type": "max31855"}]})
    with pytest.raises(WiringError, match="line 8 is used already"):
        SimBoard({"device": [{"type": "button", "line": 8}, {"type": "mcp3008"}]})


def test_a_part_that_a_line_selects_answers_whatever_device_the_transfer_is_for(make: Make) -> None:
    rig = make("mcp3008", line=5, inputs=[1.65])
    rig.board.line(5).drive(1)
    assert rig.exchange("018000") == b"\0\0\0"
    rig.board.line(5).drive(0)
    assert read_adc(rig, "018000") == 512
    rig.board.line(5).drive(1)
    assert rig.exchange("018000") == b"\0\0\0"


def test_a_part_that_a_line_selects_sends_its_bytes_from_the_first_on(make: Make) -> None:
    rig = make("max31855", line=5, temperature=451.25, internal=22.5)
    for _ in range(2):
        rig.board.line(5).drive(1)
        rig.board.line(5).drive(0)
        assert rig.exchange(bytes(4)).hex() == "1c341680"


def test_two_parts_that_are_selected_at_once_drive_miso_against_each_other() -> None:
    devices = [{"type": "max31855", "temperature": 10.25}, {"type": "max31855", "line": 5, "temperature": 20.5}]
    with SimBoard({"device": devices}, clock=hwloop.VirtualClock()) as board:
        board.line(5).drive(1)
        board.line(5).drive(0)
        answer = board.spi(0).transfer(0, [Segment(bytes(4), 1e6)])[0]
        assert int.from_bytes(answer) >> 18 == round(10.25 * 4) & round(20.5 * 4)


# MAX31855.


@pytest.mark.parametrize(
    ("celsius", "bits"),
    [
        (1000.0, "00111110100000"),
        (100.75, "00000110010011"),
        (25.0, "00000001100100"),
        (0.0, "00000000000000"),
        (-0.25, "11111111111111"),
        (-1.0, "11111111111100"),
        (-250.0, "11110000011000"),
    ],
)
def test_temperatures_of_the_thermocouple_are_those_of_table_4(make: Make, celsius: float, bits: str) -> None:
    word = int.from_bytes(make("max31855", temperature=celsius).exchange(bytes(4)))
    assert f"{word >> 18:014b}" == bits


@pytest.mark.parametrize(
    ("celsius", "bits"),
    [
        (127.0, "011111110000"),
        (100.5625, "011001001001"),
        (25.0, "000110010000"),
        (-0.0625, "111111111111"),
        (-20.0, "111011000000"),
        (-55.0, "110010010000"),
    ],
)
def test_temperatures_of_the_chip_are_those_of_table_5(make: Make, celsius: float, bits: str) -> None:
    word = int.from_bytes(make("max31855", internal=celsius).exchange(bytes(4)))
    assert f"{word >> 4 & 0xFFF:012b}" == bits


@pytest.mark.parametrize(("fault", "bits"), [(None, 0), ("open", 1), ("short-to-ground", 2), ("short-to-supply", 4)])
def test_a_fault_sets_its_bit_and_the_summary(make: Make, fault: str | None, bits: int) -> None:
    keys = {} if fault is None else {"fault": fault}
    word = int.from_bytes(make("max31855", **keys).exchange(bytes(4)))
    assert (word & 7, word >> 16 & 1) == (bits, int(bits > 0))


def test_a_thermometer_that_is_read_too_often_never_converts(make: Make) -> None:
    rig = make("max31855", temperature=20.0)
    assert rig.exchange(bytes(2)) == b"\x01\x40"
    rig.part.temperature = 30.0
    for _ in range(5):
        rig.wait(0.05)
        assert rig.exchange(bytes(2)) == b"\x01\x40"
    rig.wait(0.1)
    assert rig.exchange(bytes(2)) == b"\x01\xe0"


def test_it_sends_zeros_until_it_has_converted_after_its_supply_failed(make: Make) -> None:
    rig = make("max31855", temperature=20.0)
    rig.part.reset()
    assert rig.exchange(bytes(4)) == bytes(4)
    rig.wait(0.2)
    assert rig.exchange(bytes(2)) == b"\x01\x40"


def test_it_answers_in_mode_0_only_as_it_changes_its_output_on_the_falling_edge(make: Make) -> None:
    rig = make("max31855", temperature=20.0)
    assert rig.exchange(bytes(2), Mode.CPHA) == b"\x00\xa0"


# Flash.


def status(rig: Rig) -> int:
    return rig.exchange("0500")[1]


def test_a_flash_has_the_identifiers_of_its_size(make: Make) -> None:
    for megabits, jedec, device in ((32, "ef4016", "15"), (64, "ef4017", "16"), (128, "ef4018", "17")):
        rig = make("flash", megabits=megabits)
        assert rig.exchange("9f000000")[1:].hex() == jedec
        assert rig.exchange("9000000000000000")[4:].hex() == f"ef{device}ef{device}"
        assert rig.exchange("ab00000000")[4:].hex() == device
        assert len(set(rig.exchange("4b00000000" + "00" * 8)[5:])) > 1


def test_programming_needs_the_latch_and_takes_its_time(make: Make) -> None:
    rig = make("flash")
    rig.exchange(b"\x02\x00\x10\x00abc")
    assert rig.exchange("03001000000000")[4:] == b"\xff\xff\xff", "without write enable nothing is programmed"
    rig.exchange("06")
    assert status(rig) == 2
    rig.exchange(b"\x02\x00\x10\x00abc")
    assert status(rig) == 3
    assert rig.exchange("03001000000000")[4:] == bytes(3), "while it is busy it answers the status only"
    rig.exchange("06")
    rig.wait(0.001)
    assert status(rig) == 0, "the latch clears itself"
    assert rig.exchange("03001000000000")[4:] == b"abc"
    assert rig.exchange("0b00100000000000")[5:] == b"abc"


def test_programming_clears_bits_and_wraps_within_its_page(make: Make) -> None:
    rig = make("flash")
    for data in (b"\x02\x00\x01\xfe\x0f\x0f\x0f\x0f", b"\x02\x00\x01\xfe\x3c"):
        rig.exchange("06")
        rig.exchange(data)
        rig.wait(0.01)
    assert bytes(rig.part.data[0x1FE:0x202]) == b"\x0c\x0f\xff\xff"
    assert bytes(rig.part.data[0x100:0x103]) == b"\x0f\x0f\xff"
    rig.exchange("06")
    rig.exchange(b"\x02\x00\x05\x00" + b"\x11" * 10 + bytes(range(256)))
    rig.wait(0.01)
    assert bytes(rig.part.data[0x500:0x600]) == bytes((index - 10) % 256 for index in range(256))


@pytest.mark.parametrize(
    ("command", "size", "seconds"), [("20", 4096, 0.045), ("52", 32768, 0.12), ("d8", 65536, 0.15)]
)
def test_an_erase_sets_the_bits_of_its_block(make: Make, command: str, size: int, seconds: float) -> None:
    rig = make("flash")
    rig.part.data[: 3 * size] = bytes(3 * size)
    address = (size + 5).to_bytes(3)
    rig.exchange(bytes.fromhex(command) + address)
    assert rig.part.data[size] == 0, "without write enable nothing is erased"
    rig.exchange("06")
    rig.exchange(bytes.fromhex(command) + address + b"\0")
    assert rig.part.data[size] == 0, "a command with a byte too many is none"
    rig.exchange(bytes.fromhex(command) + address)
    rig.wait(seconds - 0.001)
    assert status(rig) == 3
    rig.wait(0.001)
    assert status(rig) == 0
    assert rig.part.data[size - 1 : 2 * size + 1] == b"\0" + b"\xff" * size + b"\0"


def test_the_whole_chip_is_erased_in_seconds(make: Make) -> None:
    rig = make("flash", megabits=8)
    rig.part.data[:] = bytes(len(rig.part.data))
    rig.exchange("06")
    rig.exchange("c7")
    rig.wait(9.9)
    assert rig.part.busy
    rig.wait(0.2)
    assert not rig.part.busy
    assert set(rig.part.data) == {0xFF}


def test_a_flash_that_sleeps_answers_nothing_until_it_is_released(make: Make) -> None:
    rig = make("flash")
    rig.exchange("b9")
    assert rig.exchange("9f000000") == bytes(4)
    rig.exchange("ab")
    assert rig.exchange("9f000000")[1:].hex() == "ef4016"


def test_a_reset_needs_both_commands_in_a_row(make: Make) -> None:
    rig = make("flash")
    rig.exchange("06")
    for command in ("66", "05", "99"):
        rig.exchange(command)
    assert status(rig) == 2
    rig.exchange("66")
    rig.exchange("99")
    rig.wait(0.001)
    assert status(rig) == 0


def test_reading_goes_on_over_the_end_of_the_memory(make: Make) -> None:
    rig = make("flash", megabits=8)
    rig.part.data[0], rig.part.data[-1] = 1, 2
    assert rig.exchange("030fffff0000")[4:] == b"\x02\x01"


def test_an_image_gives_the_first_contents(tmp_path) -> None:
    (tmp_path / "image.bin").write_bytes(b"boot")
    file = tmp_path / "board.toml"
    file.write_text('[[device]]\ntype = "flash"\nname = "part"\nimage = "image.bin"\n')
    with SimBoard(file) as board:
        assert board["part"].data[:6] == b"boot\xff\xff"
    file.write_text('[[device]]\ntype = "flash"\nimage = "other.bin"\n')
    with pytest.raises(WiringError, match=r"image other\.bin: No such file"):
        SimBoard(file)
    (tmp_path / "other.bin").write_bytes(bytes(1 << 21))
    file.write_text('[[device]]\ntype = "flash"\nmegabits = 8\nimage = "other.bin"\n')
    with pytest.raises(WiringError, match=r"image other\.bin has 2097152 bytes, and the flash 1048576"):
        SimBoard(file)


# MFRC522.


def read_register(rig: Rig, register: int) -> int:
    return rig.exchange(bytes([register << 1 | 0x80, 0]))[1]


def write_register(rig: Rig, register: int, *values: int) -> None:
    rig.exchange(bytes([register << 1, *values]))


def transceive(rig: Rig, frame: bytes, bits: int = 0) -> tuple[bytes, int] | None:
    """Send a frame to the card, as drivers do; return its answer and the bits of its last byte, or None."""
    write_register(rig, 0x04, 0x7F)
    write_register(rig, 0x0A, 0x80)
    write_register(rig, 0x09, *frame)
    write_register(rig, 0x01, 0x0C)
    write_register(rig, 0x0D, 0x80 | bits)
    for _ in range(500):
        irq = read_register(rig, 0x04)
        if irq & 0x20:
            count = read_register(rig, 0x0A)
            return bytes(read_register(rig, 0x09) for _ in range(count)), read_register(rig, 0x0C) & 7
        if irq & 0x01:
            return None
        rig.wait(0.0001)
    raise AssertionError("neither answer nor timeout")


def authenticate(rig: Rig, block: int, key: str, uid: str = "deadbeef", command: int = 0x60) -> bool:
    write_register(rig, 0x04, 0x7F)
    write_register(rig, 0x0A, 0x80)
    write_register(rig, 0x09, command, block, *bytes.fromhex(key + uid))
    write_register(rig, 0x01, 0x0E)
    rig.wait(0.02)
    return bool(read_register(rig, 0x08) & 0x08)


@pytest.fixture
def reader(make: Make) -> Rig:
    rig = make("mfrc522", text="hello")
    for register, value in ((0x2A, 0x8D), (0x2B, 0x3E), (0x2D, 30), (0x2C, 0), (0x11, 0x3D), (0x14, 0x83)):
        write_register(rig, register, value)
    return rig


def select_card(rig: Rig) -> None:
    assert transceive(rig, b"\x26", 7) == (b"\x04\x00", 0)
    uid, _ = transceive(rig, b"\x93\x20")
    assert uid == bytes.fromhex("deadbeef22")
    assert transceive(rig, checked(b"\x93\x70" + uid)) == (checked(b"\x08"), 0)


def test_the_checksum_is_that_of_the_standard() -> None:
    assert checked(b"\0\0").hex() == "0000a01e"  # ISO/IEC 14443-3, annex B
    assert checked(b"\x12\x34").hex() == "123426cf"
    assert crc_a(b"\0\0") == 0x1EA0


def test_the_reader_calculates_it_too(reader: Rig) -> None:
    write_register(reader, 0x0A, 0x80)
    write_register(reader, 0x09, 0x12, 0x34)
    write_register(reader, 0x01, 3)
    assert read_register(reader, 0x05) & 4
    assert (read_register(reader, 0x22), read_register(reader, 0x21)) == (0x26, 0xCF)


def test_the_reader_has_its_version_and_registers_after_a_reset(reader: Rig) -> None:
    assert read_register(reader, 0x37) == 0x92
    assert read_register(reader, 0x11) == 0x3D
    write_register(reader, 0x01, 0x0F)
    assert read_register(reader, 0x11) == 0x3F
    assert reader.exchange(bytes([0x37 << 1 | 0x80, 0x11 << 1 | 0x80, 0]))[1:] == b"\x92\x3f"


def test_a_card_is_selected_and_its_blocks_are_read_and_written(reader: Rig) -> None:
    select_card(reader)
    assert authenticate(reader, 11, "ffffffffffff")
    assert transceive(reader, checked(b"\x30\x08")) == (checked(b"hello".ljust(16)), 0)
    assert transceive(reader, checked(b"\xa0\x09")) == (b"\x0a", 4)
    assert transceive(reader, checked(b"0123456789abcdef")) == (b"\x0a", 4)
    assert transceive(reader, checked(b"\x30\x09")) == (checked(b"0123456789abcdef"), 0)
    trailer, _ = transceive(reader, checked(b"\x30\x0b"))
    assert trailer[:10].hex() == "000000000000ff078069"
    assert authenticate(reader, 4, "ffffffffffff", command=0x61)
    assert transceive(reader, checked(b"\x30\x04")) == (checked(bytes(16)), 0)


def test_a_card_falls_silent_at_a_wrong_key_or_command(reader: Rig) -> None:
    for mistake in (
        lambda: authenticate(reader, 11, "000000000000"),
        lambda: transceive(reader, checked(b"\x30\x08")),  # without authentication
        lambda: transceive(reader, b"\x30\x08\x00\x00"),  # a wrong checksum
        lambda: transceive(reader, checked(b"\x30\x40")),  # no such block
        lambda: transceive(reader, b"\x26", 7),  # it is selected already
        lambda: transceive(reader, checked(b"\x60\x00")),
    ):
        select_card(reader)
        assert not mistake()
    select_card(reader)
    assert authenticate(reader, 0, "ffffffffffff")
    assert transceive(reader, checked(b"\xa0\x00")) is None, "the manufacturer's block is read-only"


def test_a_halted_card_answers_a_wake_up_only(reader: Rig) -> None:
    select_card(reader)
    assert transceive(reader, checked(b"\x50\x00")) is None
    assert transceive(reader, b"\x26", 7) is None
    assert transceive(reader, b"\x52", 7) == (b"\x04\x00", 0)


def test_without_a_card_or_a_field_the_timer_runs_out(reader: Rig) -> None:
    write_register(reader, 0x14, 0x80)
    assert transceive(reader, b"\x26", 7) is None
    write_register(reader, 0x14, 0x83)
    assert transceive(reader, b"\x26", 7) is not None
    reader.part.card = None
    before = reader.clock.now_ns()
    assert transceive(reader, b"\x26", 7) is None
    assert 15_000_000 < reader.clock.now_ns() - before < 17_000_000


def test_the_fifo_takes_64_bytes(reader: Rig) -> None:
    write_register(reader, 0x0A, 0x80)
    write_register(reader, 0x09, *range(65))
    assert (read_register(reader, 0x0A), read_register(reader, 0x06)) == (64, 0x10)
    write_register(reader, 0x0A, 0x80)
    assert (read_register(reader, 0x0A), read_register(reader, 0x06)) == (0, 0)


def test_the_reset_pin_stops_the_reader(make: Make) -> None:
    rig = make("mfrc522", reset_line=25)
    rig.board.line(25).drive(1)
    write_register(rig, 0x11, 0x3D)
    rig.board.line(25).drive(0)
    assert read_register(rig, 0x37) == 0
    rig.board.line(25).drive(1)
    assert (read_register(rig, 0x37), read_register(rig, 0x11)) == (0x92, 0x3F)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"uid": "dead"}, "uid must be eight hexadecimal digits, or empty without a card, not 'dead'"),
        ({"key": "ff"}, "key must be twelve hexadecimal digits, not 'ff'"),
        ({"text": "x" * 49}, "text must have at most 48 characters, not 49"),
    ],
)
def test_impossible_cards_are_rejected(make: Make, keys: dict[str, str], message: str) -> None:
    with pytest.raises(WiringError, match=message):
        make("mfrc522", **keys)
