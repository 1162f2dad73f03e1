"""An I2C bus of a real board with a tracer: each call of `SMBus` that makes a transfer is recorded.

The calls are those of smbus2's class, and a driver may take any object of it. So methods of this one object are
replaced, and it stays an `SMBus`. A transfer has the messages that its call puts on the wire
(Documentation/i2c/smbus-protocol.rst of the kernel), and the time that the call took. A call that fails is recorded as
an address without an answer: the kernel does not report how far it got.
"""

from __future__ import annotations

import errno
import functools
import inspect
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from hwloop.board_interface import Board
from hwloop.trace_events import I2cMessage, I2cTransfer

if TYPE_CHECKING:
    from smbus2 import SMBus

_Bytes = Sequence[int]


def _word(value: int) -> list[int]:
    return [value & 0xFF, value >> 8]


# For each call: its bytes that are sent and received, from its result and its arguments after the address. None: no
# message in this direction.
_CALLS: dict[str, Callable[..., tuple[_Bytes | None, _Bytes | None]]] = {
    "write_quick": lambda _: ([], None),
    "read_byte": lambda result: (None, [result]),
    "write_byte": lambda _, value: ([value], None),
    "read_byte_data": lambda result, register: ([register], [result]),
    "write_byte_data": lambda _, register, value: ([register, value], None),
    "read_word_data": lambda result, register: ([register], _word(result)),
    "write_word_data": lambda _, register, value: ([register, *_word(value)], None),
    "process_call": lambda result, register, value: ([register, *_word(value)], _word(result)),
    "read_block_data": lambda result, register: ([register], [len(result), *result]),
    "write_block_data": lambda _, register, data: ([register, len(data), *data], None),
    "block_process_call": lambda result, register, data: (
        [register, len(data), *data],
        [len(result), *result],
    ),
    "read_i2c_block_data": lambda result, register, length: ([register], result),
    "write_i2c_block_data": lambda _, register, data: ([register, *data], None),
}
_READS = 1
"""I2C_M_RD of <linux/i2c.h>."""


def trace_bus(board: Board, number: int, bus: SMBus) -> None:
    """Have an open bus record its transfers with the tracer of the board, while the board has one."""

    def record(start_ns: int, messages: Sequence[I2cMessage], error: str) -> None:
        if board.tracer is not None:
            board.tracer.record(I2cTransfer(start_ns, time.monotonic_ns(), number, tuple(messages), error))

    for name in _CALLS:
        vars(bus)[name] = _traced(getattr(bus, name), record)
    vars(bus)["i2c_rdwr"] = _traced_messages(bus.i2c_rdwr, record)


_Record = Callable[[int, Sequence[I2cMessage], str], None]


def _traced(call: Callable[..., Any], record: _Record) -> Callable[..., Any]:
    """Return a call of the SMBus protocol that records its transfer."""
    signature, name = inspect.signature(call), call.__name__

    @functools.wraps(call)
    def traced(*args: Any, **options: Any) -> Any:
        given = signature.bind(*args, **options).arguments
        address, *values = (value for parameter, value in given.items() if parameter != "force")
        start_ns = time.monotonic_ns()
        try:
            result = call(*args, **options)
        except OSError as error:
            record(start_ns, [I2cMessage(address, "received" if name == "read_byte" else "sent", b"")], _name(error))
            raise
        sent, received = _CALLS[name](result, *values)
        messages = [] if sent is None else [I2cMessage(address, "sent", bytes(sent))]
        if received is not None:
            messages.append(I2cMessage(address, "received", bytes(received)))
        record(start_ns, messages, "")
        return result

    return traced


def _traced_messages(call: Callable[..., None], record: _Record) -> Callable[..., None]:
    """Return `i2c_rdwr` with its transfer recorded."""

    @functools.wraps(call)
    def traced(*messages: Any) -> None:
        start_ns = time.monotonic_ns()
        try:
            call(*messages)
        except OSError as error:
            first = [I2cMessage(each.addr, "received" if each.flags & _READS else "sent", b"") for each in messages[:1]]
            record(start_ns, first, _name(error))
            raise
        made = [I2cMessage(each.addr, "received" if each.flags & _READS else "sent", bytes(each)) for each in messages]
        record(start_ns, made, "")

    return traced


def _name(error: OSError) -> str:
    return errno.errorcode.get(error.errno or 0, str(error.errno))
