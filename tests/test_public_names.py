"""The public names of the packages: exactly these, found alike by programs, completion and type checkers."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import hwloop

ROOT = Path(__file__).parents[1]

NAMES = [
    "Backoff",
    "DeadlockError",
    "Event",
    "EventLoop",
    "HardwareError",
    "Lock",
    "Periodic",
    "Priority",
    "Queue",
    "RateLimit",
    "RateLimiter",
    "RealTime",
    "SimLoop",
    "ThrottleStatistics",
    "Tick",
    "TimeLimitError",
    "VirtualClock",
    "board",
    "checkpoint",
    "create_task",
    "every",
    "gpio",
    "i2c",
    "new_event_loop",
    "onewire",
    "pins",
    "recording",
    "reschedule",
    "run",
    "scheduled",
    "serial",
    "service",
    "sliced",
    "spi",
    "throttle",
]


def in_new_process(code):
    command = [sys.executable, "-W", "error", "-c", code]
    return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT, timeout=60).stdout.split()


def test_the_public_names_are_exactly_these():
    assert sorted(hwloop.__all__) == sorted(NAMES)


def test_every_public_name_is_there():
    for name in NAMES:
        assert getattr(hwloop, name) is not None


def test_dir_lists_the_public_names_and_no_module_that_happens_to_be_loaded():
    code = "import hwloop.cli, hwloop.sources.gpio; print(*(name for name in dir(hwloop) if name[:2] != '__'))"
    assert sorted(in_new_process(code)) == sorted([*NAMES, "EventLoopPolicy"])
    assert "__version__" in dir(hwloop)


def test_a_star_import_brings_them_all_without_a_warning():
    code = "from hwloop import *; print(*(name for name in globals() if name[0] != '_'))"
    assert sorted(in_new_process(code)) == sorted(NAMES)


def test_type_checkers_see_the_names_and_modules_of_the_table():
    tree = ast.parse((ROOT / "hwloop" / "__init__.py").read_text(encoding="utf-8"))
    block = next(node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = set()
    for node in block.body:
        for alias in node.names:
            assert alias.asname == alias.name, "without `as` a type checker takes the name for a private one"
            submodule = f"{node.module}.{alias.name}"
            seen.add((submodule if submodule in hwloop._PUBLIC else node.module, alias.name))
    assert seen == {(module, name) for module, names in hwloop._PUBLIC.items() for name in names}


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'hwloop' has no attribute 'gpoi'"):
        hwloop.gpoi  # noqa: B018
    with pytest.raises(ImportError, match="gpoi"):
        importlib.import_module("hwloop.gpoi")


def test_the_first_name_loads_the_loop_and_nothing_else_of_ours():
    code = "import hwloop, sys; print(*(name for name in sys.modules if name.startswith('hwloop.')))"
    loaded = in_new_process(code)
    assert set(loaded) == {"hwloop.core", "hwloop.core.lazy"}, "pytest imports it in every run, for the plugin"
    loaded = in_new_process(code.replace("import hwloop, sys;", "import hwloop, sys; hwloop.Priority;"))
    assert {"hwloop.core.event_loop", "hwloop.runner", "hwloop.scheduling.periodic"} < set(loaded)
    late = ("hwloop.sources", "hwloop.board", "hwloop.boards", "hwloop.pins", "hwloop.service", "hwloop.cli")
    assert not [name for name in loaded if name.startswith((*late, "hwloop.virtual.loop", "hwloop.scheduling.sync"))]


PACKAGES = {
    "firmware_sim": ["Connections", "Device", "SMBus", "SimBoard", "WiringError"],
    "hwloop.service": [
        *(
            "Critical",
            "Watchdog",
            "critical",
            "notify",
            "ready",
            "reloadable",
            "starting",
            "status",
            "stopping",
            "supervised",
        ),
        *("undelivered", "watchdog_timeout"),
    ],
    "hwloop.sources": ["Backoff", "EventStream", "RateLimit", "ReopenHook", "Source", "WhenFull"],
    "hwloop.sources.gpio": [
        *("Click", "Clicks", "Edge", "EdgeKind", "Encoder", "Frequency", "LineName", "Output", "Pull", "Pulse"),
        *(
            "PulseWidth",
            "Watch",
            "clicks",
            "encoder",
            "frequency",
            "make_safe",
            "output",
            "outputs",
            "pulse_width",
            "watch",
        ),
    ],
    "hwloop.sources.i2c": [
        *(
            "FIRST_ADDRESS",
            "LAST_ADDRESS",
            "Bus",
            "BusTimeoutError",
            "Device",
            "Poll",
            "Reading",
            "Transaction",
            "open",
        ),
    ],
    "hwloop.testing": ["BoardFixture", "ProgramRun"],
    "hwloop.testing.scenario": [
        *("AnyOrder", "Call", "Click", "EndFault", "Expect", "ExpectEdges", "ExpectOutput", "ExpectQuiet"),
        *("ExpectSent", "ExpectTransfer", "Fault", "Follow", "Played", "Press", "Pulses", "Ramp", "Release"),
        *("Repeat", "Replay", "Result", "Scenario", "ScenarioError", "ScenarioFailure", "Send", "Set", "Sine"),
        *("Step", "Stop", "Turn", "Wait", "load", "parse", "play"),
    ],
    "hwloop.sources.onewire": [
        *("Bus", "BusTimeoutError", "Poll", "Reading", "Sensor", "SensorStatistics", "Transaction", "open"),
    ],
    "hwloop.sources.spi": ["BusTimeoutError", "Device", "Poll", "Reading", "Transaction", "open"],
    "hwloop.sources.serial": [
        *("Delimited", "Fixed", "Frame", "Framer", "IdleGap", "Lines", "Raw", "SerialPort", "SerialTransport"),
        *("connection_for_serial", "create_serial_connection", "nmea_checksum", "open", "open_serial_connection"),
        *("ModemChange", "ModemLevels", "ModemLines", "PortInfo", "PortMatch", "RS485Settings", "find", "ports"),
    ],
}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_public_names_of_each_package_are_exactly_these(package):
    module = importlib.import_module(package)
    assert sorted(module.__all__) == sorted(PACKAGES[package])
    assert all(getattr(module, name) is not None for name in module.__all__)
    assert sorted(dir(module)) == sorted(PACKAGES[package]), "completion shows the public names only"
