"""The arguments of a serial port, checked when the program gives them, and in the spellings that programs use.

pyserial checks some of them when the port is opened, in words that name its own parameters, and takes others as they
are: `bytesize="8"` fails as "Not a valid byte size: '8'", `framing=Lines` as an AttributeError at the first byte. Here
a value whose meaning is clear is taken ("9600", "even", a `Path`), and any other is an error at once that says what to
write.
"""

from __future__ import annotations

import inspect
import math
import operator
import os
from typing import TYPE_CHECKING, Any, Literal, TypedDict

from hwloop.core.naming import short_name
from hwloop.sources.serial.framing import Framer, Raw

if TYPE_CHECKING:
    from serial.rs485 import RS485Settings

Parity = Literal["N", "E", "O", "M", "S"]
"""None, even, odd, mark, space: pyserial's letters."""

PortName = str | os.PathLike[str]
"""A port as programs name it: "/dev/ttyUSB0", a path object, a search made by `find`, or one of pyserial's URLs for a
port of this machine."""

_PARITIES: dict[str, Parity] = {"none": "N", "even": "E", "odd": "O", "mark": "M", "space": "S"}
_ELSEWHERE = {
    "timeout": "port.request(data, timeout=...), or asyncio.timeout() around the wait",
    "write_timeout": "asyncio.timeout() around port.drain() or port.flush()",
    "inter_byte_timeout": "framing=serial.IdleGap(seconds)",
    "dsrdtr": "rtscts=True or xonxoff=True for flow control, dtr= for the line's level",
    "baud": "baudrate=",
    "speed": "baudrate=",
    "databits": "bytesize=",
    "data_bits": "bytesize=",
    "stop_bits": "stopbits=",
    "framer": "framing=",
    "url": "the port as the first argument",
    "loop": "nothing: a source runs on the loop that opens it",
}


class PySerialOptions(TypedDict, total=False):
    """The arguments of pyserial's `Serial`."""

    baudrate: int
    bytesize: int
    parity: Parity
    stopbits: float
    timeout: float | None
    xonxoff: bool
    rtscts: bool
    write_timeout: float | None
    dsrdtr: bool
    inter_byte_timeout: float | None
    exclusive: bool | None


class SerialOptions(PySerialOptions, total=False):
    """The same, the modem lines' levels when the port is opened, and modes of its driver."""

    dtr: bool | None
    rts: bool | None
    low_latency: bool
    rs485: bool | RS485Settings | None


LATER = ("dtr", "rts", "low_latency", "rs485")
"""The options that are no arguments of pyserial's `Serial`."""


def checked_port(port: object) -> str:
    """Return a port's name as a string. Raises `TypeError` or `ValueError`."""
    if isinstance(port, os.PathLike):
        port = os.fspath(port)
    if isinstance(port, bytes):
        port = os.fsdecode(port)
    if not isinstance(port, str):
        hint = "; for an object that pyserial opened use serial.connection_for_serial" if hasattr(port, "read") else ""
        raise TypeError(f"a port is named by a string or a path, as '/dev/ttyUSB0', not {short_name(port)}{hint}")
    if not port.strip():
        raise ValueError("the port's name is empty; write one like '/dev/ttyUSB0'")
    return port


def checked_options(port: str, options: SerialOptions) -> SerialOptions:
    """Return `options` with each value in pyserial's spelling. Raises `TypeError` or `ValueError`."""
    checked = options.copy()
    if "baudrate" in options:
        checked["baudrate"] = _baudrate(port, options["baudrate"])
    if "bytesize" in options:
        checked["bytesize"] = int(_one_of(port, "bytesize", options["bytesize"], (5, 6, 7, 8)))
    if "stopbits" in options:
        stopbits = _one_of(port, "stopbits", options["stopbits"], (1, 1.5, 2))
        checked["stopbits"] = stopbits if stopbits == 1.5 else int(stopbits)
    if "parity" in options:
        checked["parity"] = _parity(port, options["parity"])
    for line, flow in (("dtr", "dsrdtr"), ("rts", "rtscts")):
        level = options.get(line)
        if level is None:
            continue
        if level not in (0, 1):
            raise TypeError(f"{port}: {line} must be True, False or None, not {short_name(level)}")
        if options.get(flow):
            raise ValueError(f"{port}: with {flow}=True the driver sets {line.upper()}; leave out {line}= or {flow}=")
    if options.get("rs485") not in (None, True, False):
        from serial.rs485 import RS485Settings

        if not isinstance(options["rs485"], RS485Settings):
            raise TypeError(
                f"{port}: rs485 must be True or serial.RS485Settings(...), not {short_name(options['rs485'])}"
            )
    if options.get("rs485") and (options.get("rtscts") or options.get("rts") is not None):
        raise ValueError(f"{port}: with rs485= the driver sets RTS; leave out rtscts= and rts=")
    return checked


def checked_framing(port: str, framing: object) -> Framer:
    """Return a framer for the port: the one given, one of the class given, or `Raw()` for None. Raises `TypeError`."""
    if framing is None:
        return Raw()
    if inspect.isclass(framing) and issubclass(framing, Framer):
        framing = _made(port, framing)
    if not isinstance(framing, Framer):
        hint = f": write framing=serial.Delimited({framing!r})" if isinstance(framing, bytes | str) and framing else ""
        hint = hint.replace("('", "(b'").replace('("', '(b"')
        raise TypeError(f"{port}: framing must be a framer such as serial.Lines(), not {short_name(framing)}{hint}")
    if not hasattr(framing, "lost"):
        raise TypeError(f"{port}: {type(framing).__name__}.__init__ must call super().__init__()")
    return framing


def misplaced(port: object, others: dict[str, Any]) -> TypeError:
    """Return the error for arguments that `serial.open` does not have, with what to write instead."""
    name = next(iter(others))
    instead = f"; use {_ELSEWHERE[name]}" if name in _ELSEWHERE else ""
    where = port if isinstance(port, str) else short_name(port)
    return TypeError(f"{where}: serial.open() has no argument {name!r}{instead}")


def _made(port: str, framing: type[Framer]) -> Framer:
    required = [
        parameter.name
        for parameter in inspect.signature(framing).parameters.values()
        if parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
    ]
    if required or inspect.isabstract(framing):
        missing = f"write framing={framing.__qualname__}({', '.join(f'{name}=...' for name in required)})"
        raise TypeError(f"{port}: framing is the class {framing.__qualname__}, which needs arguments: {missing}")
    return framing()


def _baudrate(port: str, value: object) -> int:
    number = _number(value)
    if number is None:
        raise TypeError(f"{port}: baudrate must be a whole number of bits a second, not {short_name(value)}")
    if number <= 0 or number != int(number):
        raise ValueError(f"{port}: baudrate must be a whole number above 0, not {short_name(value)}")
    return int(number)


def _one_of(port: str, name: str, value: object, allowed: tuple[float, ...]) -> float:
    number = _number(value)
    if number not in allowed:
        names = ", ".join(map(str, allowed))
        raise ValueError(f"{port}: {name} must be one of {names}, not {short_name(value)}")
    return number


def _parity(port: str, value: object) -> Parity:
    if value is None:
        return "N"
    if isinstance(value, str):
        for word, letter in _PARITIES.items():
            if value.lower() in (word, letter.lower()):
                return letter
    raise ValueError(
        f"{port}: parity must be one of N, E, O, M, S (none, even, odd, mark, space), not {short_name(value)}"
    )


def _number(value: object) -> float | None:
    """A number, or a string that spells one; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, float | str):
        try:
            number = float(value)
        except ValueError:
            return None
        return number if math.isfinite(number) else None
    try:
        return operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        return None
