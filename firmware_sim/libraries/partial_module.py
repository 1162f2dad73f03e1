"""A module in the place of another one, with some of its functions replaced: for one library only."""

from __future__ import annotations

from collections.abc import Callable
from types import ModuleType
from typing import Any


class PartialModule:
    """The functions that replace those of `real`, and everything else of it."""

    def __init__(self, real: ModuleType, **replaced: Callable[..., Any]) -> None:
        self._real = real
        self.__dict__.update(replaced)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)
