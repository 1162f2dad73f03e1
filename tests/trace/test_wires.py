"""The wires of serial ports and I2C buses, bit by bit. sigrok decodes the same in test_sigrok.py."""

from __future__ import annotations

from firmware_sim.trace.wires import i2c_wires, serial_wire
from hwloop.trace_events import I2cMessage, I2cTransfer, SerialData, SerialSettings

SLOW = SerialSettings(1_000_000)  # a bit takes 1000 ns


def sampled(wire, start_ns, step_ns, count):
    """Return the levels of a wire in the middle of each step."""
    times = [start_ns + step_ns * number + step_ns // 2 for number in range(count)]
    return [([1] + [level for when_ns, level in wire if when_ns <= time])[-1] for time in times]


def test_a_character_has_a_start_bit_data_from_the_lowest_bit_and_a_stop_bit():
    wire = serial_wire([SerialData(5000, "/dev/ttyS0", "sent", b"\x53", SLOW)])
    assert wire[0] == (5000, 0)
    assert sampled(wire, 5000, 1000, 10) == [0, 1, 1, 0, 0, 1, 0, 1, 0, 1]
    assert wire[-1] == (15000, 1)


def test_parity_data_bits_and_stop_bits_are_those_of_the_settings():
    settings = SerialSettings(1_000_000, 7, "E", 2)
    wire = serial_wire([SerialData(0, "/dev/ttyS0", "sent", b"\x07\x07", settings)])
    character = [0, 1, 1, 1, 0, 0, 0, 0, 1, 1, 1]
    assert sampled(wire, 0, 1000, 22) == character * 2


def test_received_bytes_end_when_they_have_arrived_and_sent_ones_begin_when_they_were_written():
    received = serial_wire([SerialData(50_000, "/dev/ttyS0", "received", b"ab", SLOW)])
    sent = serial_wire([SerialData(50_000, "/dev/ttyS0", "sent", b"ab", SLOW)])
    assert (received[0][0], received[-1][0]) == (30_000, 50_000)
    assert (sent[0][0], sent[-1][0]) == (50_000, 70_000)


def test_a_gap_between_two_pieces_stays_a_gap():
    pieces = [SerialData(at, "/dev/ttyS0", "received", b"\xff", SLOW) for at in (50_000, 90_000)]
    assert [when_ns for when_ns, level in serial_wire(pieces) if not level] == [40_000, 80_000]


def test_bytes_that_came_faster_than_the_wire_follow_one_another():
    pieces = [SerialData(50_000, "/dev/ttyS0", "received", b"\xff", SLOW) for _ in range(3)]
    assert [when_ns for when_ns, level in serial_wire(pieces) if not level] == [40_000, 50_000, 60_000]


def test_unknown_settings_are_those_of_the_rest_of_the_port_or_9600():
    pieces = [SerialData(at, "/dev/ttyS0", "sent", b"\xff", settings) for at, settings in ((0, None), (90_000, SLOW))]
    assert serial_wire(pieces)[1] == (1000, 1)
    assert serial_wire(pieces[:1])[1] == (round(1e9 / 9600), 1)
    assert serial_wire([]) == []


READ = (I2cMessage(0x76, "sent", b"\xd0"), I2cMessage(0x76, "received", b"\x60"))


def bits(transfer):
    """Return the levels of SDA at the rising edges of SCL."""
    sda, scl = i2c_wires([transfer])
    rises = [when_ns for when_ns, level in scl if level]
    return "".join(str(([1] + [level for time, level in sda if time <= when_ns])[-1]) for when_ns in rises)


def test_a_transfer_has_addresses_bytes_acknowledges_and_fits_its_time():
    transfer = I2cTransfer(1000, 361_000, 1, READ, "")
    sda, scl = i2c_wires([transfer])
    #                          address   write  ack  data     ack  repeated start, address, read, data, no ack, stop
    assert bits(transfer) == "11101100011010000011110110100110000010"
    assert sda[0][0] >= 1000
    assert max(sda[-1][0], scl[-1][0]) <= 361_000
    assert (sda[-1][1], scl[-1][1]) == (1, 1)


def test_a_slow_transfer_has_bits_of_100_khz_and_a_quick_one_quicker_bits():
    for end_ns, period_ns in ((10**9, 10_000), (39_000, 1000)):
        _, scl = i2c_wires([I2cTransfer(0, end_ns, 1, READ, "")])
        rises = [when_ns for when_ns, level in scl if level]
        assert rises[1] - rises[0] == period_ns


def test_transfers_that_took_no_time_follow_one_another():
    sda, scl = i2c_wires([I2cTransfer(1000, 1000, 1, READ, "")] * 2)
    assert [when_ns for when_ns, _ in sda] == sorted({when_ns for when_ns, _ in sda})
    assert len([level for _, level in scl if level]) == 2 * 38


def test_an_address_or_byte_that_is_not_acknowledged_ends_the_transfer():
    absent = I2cTransfer(0, 90_000, 1, (I2cMessage(0x20, "received", b""),), "EREMOTEIO")
    assert bits(absent) == "0100000110"
    rejected = I2cTransfer(0, 290_000, 1, (I2cMessage(0x20, "sent", b"\x01\xff"),), "EREMOTEIO")
    assert bits(rejected) == "0100000000000000101111111110"


def test_a_hung_bus_is_low_on_both_wires_without_a_start():
    sda, scl = i2c_wires([I2cTransfer(1000, 9000, 1, (I2cMessage(0x20, "received", b""),), "ETIMEDOUT")])
    assert ([level for _, level in sda], [level for _, level in scl]) == ([0, 1], [0, 1])
    assert scl[0] < sda[0] < sda[1] < scl[1]
