"""The calls of lgpio's functions: how arguments are converted to C, and how a failed call answers.

lgpio's C functions return a negative status, and its Python part makes an exception of it unless `lgpio.exceptions` is
False. Before that, the wrapper rejects arguments of other types, whatever the handle; and Python's own part converts
handles and data.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from firmware_sim.libraries.lgpio.constants import Refused, error, error_text
from firmware_sim.libraries.lgpio.handles import Process

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound="Caller")


class Caller(Protocol):
    """An object with functions of lgpio."""

    @property
    def process(self) -> Process: ...


class Arguments:
    """The arguments of one function, in the order in which its C function takes them.

    Parameters:
        function: the function; parameters that are annotated as `int` or `float` are C's.
        order: the names of the parameters in C's order, where Python's is another.
        name: the name of the C function, where it is not Python's with an underscore.
        chip: whether `handle` is that of a chip, with the chip's number in its upper half.
    """

    def __init__(
        self, function: Callable[..., Any], order: tuple[str, ...] = (), name: str = "", *, chip: bool = False
    ) -> None:
        self._signature = inspect.signature(function)
        parameters = list(self._signature.parameters)[1:]
        self._order = [*order, *(each for each in parameters if each not in order)]
        self._types = {name: str(self._signature.parameters[name].annotation) for name in parameters}
        self._name = name or f"_{function.__name__}"
        self._chip = chip

    def check(self, owner: object, arguments: tuple[Any, ...], named: dict[str, Any]) -> None:
        """Raise what lgpio raises for arguments that C can't take."""
        try:
            bound = self._signature.bind(owner, *arguments, **named)
        except TypeError:
            return  # the call itself will raise
        bound.apply_defaults()
        values = bound.arguments
        for name, kind in self._types.items():
            if kind == "Data":
                to_bytes(values[name])
            elif name == "handle" and self._chip:
                values[name] & 0xFFFF
        for place, name in enumerate(self._order, 1):
            self._convert(place, self._types[name], values[name])

    def _convert(self, place: int, kind: str, value: Any) -> None:
        where = f"in method '{self._name}', argument {place} of type "
        if kind == "int" or (kind == "int | None" and value is not None):
            if not isinstance(value, int):
                raise TypeError(f"{where}'int'")
            if place > 1 and not -(2**31) <= value < 2**31:
                raise OverflowError(f"{where}'int'")
        elif kind == "Unsigned":
            if not isinstance(value, int):
                raise TypeError(f"{where}'uint64_t'")
            if not 0 <= value < 2**64:
                raise OverflowError(f"{where}'uint64_t'")
        elif kind == "float" and not isinstance(value, int | float):
            raise TypeError(f"{where}'float'")
        elif kind == "str" and not isinstance(value, str):
            raise TypeError(f"{where}'char const *'")
        elif kind == "Count":
            if not isinstance(value, int):
                raise ValueError("Expecting an integer")
            if value < 0:
                raise ValueError("Positive integer expected")


Unsigned = int
"""A C uint64_t."""
Count = int
"""The number of bytes to read."""
Data = bytes | bytearray | str | list[int] | tuple[int, ...]
"""Bytes to send, as lgpio takes them."""


def to_bytes(data: Data) -> bytes:
    """Convert data to bytes as lgpio does. Raises its `error`."""
    if isinstance(data, str):
        return data.encode("latin-1")
    if isinstance(data, bytes | bytearray | list | tuple):
        return bytes(data)
    raise error("can't convert to bytes")


def answer(process: Process, refused: Refused, rest: tuple[object, ...]) -> Any:
    """Answer for a failed call: raise lgpio's `error`, or return the status, followed by `rest` in a list.

    While Python clears up at its exit, the board has closed, and what the program left open has ended. A call is then a
    `__del__` of the program's, whose handles are valid on a Pi until the process is gone: it fails for no other reason.
    """
    if sys.is_finalizing():
        return [0, *rest] if rest else 0
    if process.exceptions:
        raise error(error_text(refused.code)) from None
    return [refused.code, *rest] if rest else refused.code


def called(*rest: object, name: str = "") -> Callable[[Callable[Concatenate[S, P], R]], Callable[Concatenate[S, P], R]]:
    """Make a function of lgpio of a method that raises `Refused`. `rest` follows a status in a list."""

    def decorate(function: Callable[Concatenate[S, P], R]) -> Callable[Concatenate[S, P], R]:
        expected = Arguments(function, name=name)

        @functools.wraps(function)
        def call(self: S, /, *args: P.args, **kwargs: P.kwargs) -> R:
            expected.check(self, args, kwargs)
            try:
                return function(self, *args, **kwargs)
            except Refused as refused:
                return answer(self.process, refused, rest)  # type: ignore[no-any-return]

        return call

    return decorate
