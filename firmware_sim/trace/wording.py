"""Events in words: for reports, golden files and the comparison of traces.

line 17 falls by the button on line 17
/dev/ttyAMA0 received '$GPRMC,1\\r\\n'
i2c 1 0x76 w d0 r 60
spi 0.1 w 01 80 00 r 00 02 a0
fault stuck-line on line 17 begins
"""

from __future__ import annotations

from hwloop.trace_events import (
    FaultChange,
    I2cTransfer,
    LineChange,
    Printed,
    SerialData,
    SerialFrame,
    SpiTransfer,
    TraceEvent,
)


def describe(event: TraceEvent) -> str:
    """Return an event in words, on one line, without its time and its cause."""
    if isinstance(event, LineChange):
        return f"line {event.line} {'rises' if event.level else 'falls'}"
    if isinstance(event, SerialData):
        return f"{event.port} {event.direction} {data_text(event.data)}"
    if isinstance(event, SerialFrame):
        return f"{event.port} frame {data_text(event.data)}"
    if isinstance(event, I2cTransfer):
        return f"i2c {event.bus} {transfer_text(event)}"
    if isinstance(event, SpiTransfer):
        return f"spi {event.device} {exchange_text(event)}"
    if isinstance(event, FaultChange):
        return f"fault {event.fault} on {event.target} {'begins' if event.begins else 'ends'}"
    assert isinstance(event, Printed)
    return f"{event.stream} {event.text!r}"


def describe_fully(event: TraceEvent) -> str:
    """Return an event in words, with the cause of a line's change and the details of a fault."""
    if isinstance(event, LineChange) and event.by:
        return printable(f"{describe(event)} by {event.by}")
    if isinstance(event, FaultChange) and event.detail:
        return printable(f"{describe(event)}: {event.detail}")
    return describe(event)


def data_text(data: bytes) -> str:
    """Return bytes as text in quotes if they are text, else in hexadecimal."""
    if data and all(32 <= byte < 127 or byte in b"\r\n\t" for byte in data):
        return repr(data.decode("ascii"))
    return data.hex(" ")


def transfer_text(transfer: I2cTransfer) -> str:
    """Return the messages of a transfer, as "0x76 w d0 r 60", and its error."""
    parts, address = list[str](), -1
    for message in transfer.messages:
        if message.address != address:
            address = message.address
            parts.append(f"0x{address:02x}")
        parts.append("w" if message.direction == "sent" else "r")
        if message.data:
            parts.append(message.data.hex(" "))
    if transfer.error:
        parts.append(transfer.error)
    return " ".join(parts)


def exchange_text(transfer: SpiTransfer) -> str:
    """Return the bytes of an SPI transfer, as "w 01 80 00 r 00 02 a0", and its error."""
    parts = ["w", transfer.sent.hex(" ")]
    if transfer.received:
        parts += ["r", transfer.received.hex(" ")]
    return " ".join([*filter(None, parts), transfer.error]).rstrip()


def printable(text: str) -> str:
    """Return a text on one line, with a replacement character for each control character."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in text)


def seconds(when_ns: int, decimals: int = 6) -> str:
    """Return a time in seconds."""
    return f"{when_ns / 1e9:.{decimals}f}"
