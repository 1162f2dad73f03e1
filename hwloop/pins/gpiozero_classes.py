"""The classes of gpiozero from which ours derive. They carry no annotations, so this module declares them.

Type checkers accept any attribute of them, and check what our subclasses add. For running programs they are gpiozero's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:

    class _Untyped:
        def __init__(self, *arguments: Any, **options: Any) -> None: ...

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

    class PiFactory(_Untyped):
        pins: dict[Any, Any]
        pin_class: Any

        def pin(self, name: Any, *, pin_class: Any = None, **options: Any) -> Any: ...

        def _get_revision(self) -> Any: ...

    class PiPin(_Untyped):
        @property
        def info(self) -> Any: ...

        def close(self) -> None: ...

        def input_with_pull(self, pull: Any) -> None: ...

        def _get_state(self) -> Any: ...

        def _set_function(self, value: Any) -> None: ...

        def _set_bounce(self, value: Any) -> None: ...

        def _call_when_changed(self, *arguments: Any) -> None: ...

    class MockFactory(PiFactory):
        def reset(self) -> None: ...

    class MockPin(PiPin): ...

    class GPIOQueue(_Untyped):
        @property
        def value(self) -> Any: ...

else:
    from gpiozero.mixins import GPIOQueue
    from gpiozero.pins.mock import MockFactory, MockPin
    from gpiozero.pins.pi import PiFactory, PiPin

__all__ = ["GPIOQueue", "MockFactory", "MockPin", "PiFactory", "PiPin"]
