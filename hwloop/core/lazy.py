"""Names of a package that are imported when first used.

A program that only watches pins should not pay for the asyncio streams of serial ports, or an import for what nobody
uses: on a Raspberry Pi Zero a module costs milliseconds. A package lists such names once; the table serves attribute
access (PEP 562) and `dir()`. Type checkers see ordinary imports under `TYPE_CHECKING` in its place.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any


def lazy_names(
    package: str, public: Iterable[str], modules: Mapping[str, Iterable[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return the `__getattr__` and `__dir__` of a package.

    Parameters:
        package: its `__name__`.
        public: its `__all__`, which `dir()` lists.
        modules: for each module, by its full name, the names that are imported from it on first use. A name in which
            the module's own ends is the module itself.
    """
    origin = {name: module for module, names in modules.items() for name in names}
    listed = sorted(public)

    def __getattr__(name: str) -> Any:
        if name not in origin:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        path = origin[name]
        module = importlib.import_module(path)
        value = module if path.endswith(f".{name}") else getattr(module, name)
        setattr(sys.modules[package], name, value)
        return value

    return __getattr__, lambda: listed
