"""The environment of gpiozero's tests: them: they come without their own conftest.py, and this file takes its place.

The fixtures have the names and the manners that the tests rely on. HWLOOP_TEST_FACTORY says which factory they get, and
the outcome of each test goes to the file named in HWLOOP_TEST_OUTCOMES.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from gpiozero import Device
from gpiozero.pins.mock import MockFactory, MockPWMPin

from firmware_sim.libraries.lgpio.api import Lgpio
from hwloop.pins import SimFactory

_FACTORIES: dict[str, type[MockFactory]] = {"mock": MockFactory, "sim": SimFactory}


class ThreadedTest(threading.Thread):
    """Calls a function in a thread and keeps what it returns. It has begun to wait when the constructor is left."""

    def __init__(self, function: Callable[[], Any]) -> None:
        super().__init__(daemon=True)
        self._function = function
        self._result: Any = None
        self.start()
        time.sleep(0.05)

    def run(self) -> None:
        self._result = self._function()

    @property
    def result(self) -> Any:
        self.join(10)
        assert not self.is_alive()
        return self._result


@pytest.fixture
def no_default_factory() -> Iterator[None]:
    before = Device.pin_factory
    Device.pin_factory = None
    yield
    Device.pin_factory = before


@pytest.fixture
def mock_factory() -> Iterator[MockFactory]:
    before = Device.pin_factory
    Device.pin_factory = factory = _FACTORIES[os.environ["HWLOOP_TEST_FACTORY"]]()
    yield factory
    if Device.pin_factory is not None:
        Device.pin_factory.reset()
    Device.pin_factory = before


@pytest.fixture
def pwm(mock_factory: MockFactory) -> None:
    mock_factory.pin_class = MockPWMPin


@pytest.fixture(autouse=True)
def reads_take_time(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """One test counts levels while pulses are sent: as on a real chip, a read takes time and lets other threads run."""
    if "duty_cycles" in request.node.name:
        read = Lgpio.gpio_read

        def slow_read(self: Lgpio, handle: int, gpio: int) -> int:
            time.sleep(1e-6)
            return read(self, handle, gpio)

        monkeypatch.setattr(Lgpio, "gpio_read", slow_read)


_outcomes: dict[str, str] = {}


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Keep the worst of a test's three phases."""
    if report.when == "call" or report.outcome != "passed":
        _outcomes[report.nodeid] = "failed" if report.failed else report.outcome


def pytest_sessionfinish() -> None:
    Path(os.environ["HWLOOP_TEST_OUTCOMES"]).write_text(json.dumps(_outcomes), encoding="utf-8")
