"""Other versions of Python's modules for a program: in its modules that are imported already, and in later imports.

A program has imported `sleep` or the class `Thread` into its own modules, and so have its libraries. So whatever refers
to a replaced name there is replaced for a while: global names, what classes keep as attributes, the base of a class,
and locks, events and queues that were made when a module was imported. Python's own modules, hwloop, pytest and its
plugins are left alone.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

from hwloop.virtual import locks

KEPT: frozenset[str] = frozenset(
    {"hwloop", "firmware_sim", "hwloop_bench", "pytest", "_pytest", "pluggy", "execnet", "coverage", "hypothesis"}
)
"""Packages that always keep Python's modules."""


class ProgramModule(ModuleType):
    """A module with some names replaced."""

    def __init__(self, original: ModuleType, names: dict[str, Any]) -> None:
        super().__init__(original.__name__, original.__doc__)
        self.__dict__.update(names)
        self.__dict__["_original"] = original

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_original"], name)


class Replacements:
    """The modules that a program finds instead of those of the same names.

    Parameters:
        modules: by name.
    """

    def __init__(self, modules: Mapping[str, ModuleType]) -> None:
        self._modules = modules
        self._by_identity: dict[int, Any] = {}
        self._originals: list[object] = []  # so that nothing else gets their identity
        for name, module in modules.items():
            original = sys.modules[name]
            self._by_identity[id(original)] = module
            for each, value in vars(module).items():
                if not each.startswith("_") and hasattr(original, each):
                    self._by_identity[id(getattr(original, each))] = value
        self._found: weakref.WeakKeyDictionary[ModuleType, list[tuple[Any, str, Any]]] = weakref.WeakKeyDictionary()

    def add(self, original: object, replacing: object) -> None:
        """Replace one more object."""
        if id(original) not in self._by_identity:
            self._by_identity[id(original)] = replacing
            self._originals.append(original)
            self._found.clear()

    @contextlib.contextmanager
    def in_modules(self, changed: Iterable[ModuleType]) -> Iterator[None]:
        """In this block, replace the names in modules that are imported already."""
        undo: list[tuple[Any, str, Any]] = []
        try:
            for module in changed:
                found = self._found.get(module)
                if found is None or any(_get(owner, name) is not value for owner, name, value in found):
                    found = self._found[module] = list(self._find(module))
                for owner, name, value in found:
                    replacing = self._replacing(value)
                    if replacing is not value:
                        undo.append((owner, name, value))
                        setattr(owner, name, replacing)
            yield
        finally:
            for owner, name, value in reversed(undo):
                if _get(owner, name) is not None:
                    setattr(owner, name, value)

    @contextlib.contextmanager
    def in_imports(
        self,
        chosen: Callable[[str, str | None], bool],
        followed: Mapping[str, Callable[[ModuleType], Callable[[], None]]],
    ) -> Iterator[None]:
        """In this block, let modules import the other modules: those for whose name and path `chosen()` is true.

        A function of `followed` is called with the module of its name, once that is imported. It returns one that is
        called at the end.
        """
        find, modules, waiting = builtins.__import__, self._modules, dict(followed)
        undo, depth = contextlib.ExitStack(), 0

        def follow() -> None:
            for name in [name for name in waiting if name in sys.modules]:
                undo.callback(waiting.pop(name)(sys.modules[name]))

        def import_module(name: str, names: Any = None, *arguments: Any, **named: Any) -> ModuleType:
            if name in modules:
                importing = names or {}
                if chosen(str(importing.get("__name__", "__main__")), importing.get("__file__")):
                    return modules[name]
            nonlocal depth
            depth += 1
            try:
                return find(name, names, *arguments, **named)
            finally:
                depth -= 1
                if waiting and not depth:  # else a module may be in the middle of its imports
                    follow()

        builtins.__import__ = import_module  # type: ignore[assignment]
        try:
            with undo:
                follow()
                yield
        finally:
            builtins.__import__ = find

    def _replacing(self, value: Any) -> Any:
        if isinstance(value, tuple):  # the bases of a class
            return tuple(self._by_identity.get(id(base), base) for base in value)
        if isinstance(value, locks.RENEWED):
            cond = getattr(value, "not_empty", None) or getattr(value, "_cond", value)
            if type(cond) is threading.Condition and not cond._waiters:  # type: ignore[attr-defined]
                locks.renew(value)
            return value
        if isinstance(value, _LOCK | _RLOCK):
            if not value.acquire(blocking=False):
                return value  # another thread holds it, which will release this one
            value.release()
            return locks.Lock() if isinstance(value, _LOCK) else locks.RLock()
        return self._by_identity[id(value)]

    def _find(self, module: ModuleType) -> Iterator[tuple[Any, str, Any]]:
        kinds = () if module.__name__.partition(".")[0] in sys.stdlib_module_names else (_LOCK, _RLOCK, *locks.RENEWED)
        for name, value in list(vars(module).items()):
            if id(value) in self._by_identity or isinstance(value, kinds):
                yield module, name, value
            elif isinstance(value, type) and value.__module__ == module.__name__:
                for each, attribute in list(vars(value).items()):
                    if id(attribute) in self._by_identity or isinstance(attribute, kinds):
                        yield value, each, attribute
                if any(id(base) in self._by_identity for base in value.__bases__):
                    yield value, "__bases__", value.__bases__


_LOCK: Any = type(threading.Lock())
_RLOCK: Any = type(threading.RLock())


def _get(owner: Any, name: str) -> Any:
    return owner.__bases__ if name == "__bases__" else vars(owner).get(name)


def is_of_program(module: str, kept: frozenset[str]) -> bool:
    """Return whether a module belongs to a program or its libraries, by its name."""
    root = module.partition(".")[0]
    return root not in kept and (root not in sys.stdlib_module_names or root == "__main__")


def modules_of_program(kept: frozenset[str]) -> list[ModuleType]:
    """Return the modules of the program and its libraries that are imported by now."""
    global _known
    count, before, known = _known
    modules = sys.modules
    if count != len(modules) or kept is not before or any(modules.get(name) is not it for name, it in known.items()):
        known = {
            name: module
            for name, module in list(modules.items())
            if is_of_program(name, kept) and isinstance(module, ModuleType)
        }
        _known = len(modules), kept, known
    return list(known.values())


_known: tuple[int, frozenset[str], dict[str, ModuleType]] = 0, frozenset(), {}
