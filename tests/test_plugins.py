"""Devices, boards and sources in packages of their own: installed, found by name, and run; and every way to fail."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
import sys
import textwrap
import tomllib
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any

import gpiozero
import pytest

import hwloop
from firmware_sim import Device, SimBoard, WiringError
from hwloop import board as boards
from hwloop import gpio, i2c, plugins, serial
from hwloop.board import Board, EdgeRequest, OutputRequest
from hwloop.core.clock import REAL
from hwloop.errors import HardwareError
from hwloop.pins import LoopFactory
from hwloop.virtual.clock import VirtualClock

ROOT = Path(__file__).parents[1]
PACKAGES = ROOT / "examples" / "plugins"


def install(package: Path, site: Path) -> None:
    """Install a package of one module as pip does: its module, and its metadata with the entry points beside it."""
    project = tomllib.loads((package / "pyproject.toml").read_text())
    name, version = project["project"]["name"], project["project"]["version"]
    about = site / f"{name.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    groups = project["project"].get("entry-points", {}).items()
    rows = [f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in points.items()) for group, points in groups]
    (about / "entry_points.txt").write_text("\n".join(rows))
    for module in project["tool"]["setuptools"]["py-modules"]:
        shutil.copy(package / f"{module}.py", site)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which the packages of examples/plugins are installed."""
    directory = tmp_path_factory.mktemp("site")
    for package in PACKAGES.iterdir():
        install(package, directory)
    return directory


def run_program(site: Path, directory: Path, program: str, *command: str, **environment: str) -> str:
    """Run a program in `directory` with the packages of `site` installed; return what it prints."""
    (directory / "program.py").write_text(textwrap.dedent(program))
    done = subprocess.run(
        [sys.executable, *(command or ("program.py",))],
        cwd=directory,
        env=os.environ | {"PYTHONPATH": os.pathsep.join((str(site), str(ROOT)))} | environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def run(site: Path, tmp_path: Path) -> Callable[..., str]:
    return functools.partial(run_program, site, tmp_path)


DOOR = """
import hwloop
from hwloop import gpio

async def main():
    async with gpio.watch(5) as door:
        for _ in range(4):
            edge = await anext(door)
            print(edge.value, edge.timestamp_ns // 1_000_000)

if __name__ == "__main__":
    hwloop.run(main())
"""


@pytest.mark.parametrize("kind", ["motion", "hwloop_motion:Motion"])
def test_a_device_is_used_in_a_board_file(run: Callable[..., str], tmp_path: Path, kind: str) -> None:
    (tmp_path / "board.toml").write_text(f'[[device]]\ntype = "{kind}"\nline = 5\nevery = 3600\nhold = 1.5\n')
    out = run(DOOR, "-m", "hwloop", "run", "program.py", "--board", "board.toml", "--clock", "virtual")
    assert out == "1 3599500\n0 3601000\n1 7199500\n0 7201000\n"  # virtual time begins at 1 s


@pytest.mark.parametrize(
    ("command", "environment"),
    [
        ((), {"HWLOOP_BOARD": "replay"}),
        (("-m", "hwloop", "run", "program.py", "--board", "replay"), {}),
        (("-c", "import hwloop, program; hwloop.run(program.main(), board='replay')"), {}),
    ],
)
def test_a_board_is_chosen_by_its_name(
    run: Callable[..., str], tmp_path: Path, command: tuple[str, ...], environment: dict[str, str]
) -> None:
    (tmp_path / "edges.txt").write_text("0.5 5 1\n0.75 6 1\n1.25 5 0\n2 5 1\n3 5 0\n")
    assert run(DOOR, *command, REPLAY="edges.txt", **environment) == "1 500\n0 1250\n1 2000\n0 3000\n"


@pytest.mark.slow
def test_pip_installs_the_packages(tmp_path: Path) -> None:
    """Without network: setuptools, which builds them, is among the test requirements."""
    sources = shutil.copytree(PACKAGES, tmp_path / "sources")  # setuptools builds in place
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    command = [*pip, "--disable-pip-version-check", "--target", str(tmp_path / "site"), *map(str, sources.iterdir())]
    subprocess.run(command, check=True, timeout=120)
    (tmp_path / "board.toml").write_text('[[device]]\ntype = "motion"\nline = 5\n')
    out = run_program(
        tmp_path / "site",
        tmp_path,
        DOOR,
        "-m",
        "hwloop",
        "run",
        "program.py",
        "--board",
        "board.toml",
        "--clock",
        "virtual",
    )
    assert [row.split()[0] for row in out.splitlines()] == ["1", "0", "1", "0"]


def test_a_source_is_imported_from_its_package(run: Callable[..., str], tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "event0")
    program = """
    import asyncio
    import hwloop
    from hwloop_keys import EV_KEY, INPUT_EVENT, Keys

    async def main():
        async with Keys("event0") as keys:
            with open("event0", "wb", buffering=0) as keyboard:
                for kind, code, value in ((EV_KEY, 35, 1), (0, 0, 0), (EV_KEY, 35, 0)):
                    keyboard.write(INPUT_EVENT.pack(0, 0, kind, code, value))
                print(await anext(keys), await anext(keys))

    hwloop.run(main())
    """
    assert run(program) == "Key(code=35, pressed=True) Key(code=35, pressed=False)\n"


@pytest.mark.parametrize(
    ("path", "lines"),
    [
        ("hwloop-motion/hwloop_motion.py", 15),
        ("hwloop-replay/hwloop_replay.py", 30),
        ("hwloop-keys/hwloop_keys.py", 25),
    ],
)
def test_the_page_shows_each_package_as_it_is(path: str, lines: int) -> None:
    """And each is short: `lines` at most, not counting empty ones, docstrings and imports."""
    text = (PACKAGES / path).read_text()
    assert f'```python title="{Path(path).name}"\n{text}```' in (ROOT / "docs" / "extending.md").read_text()
    code = [line for line in text.splitlines() if line and not line.startswith(("import ", "from ", '"""'))]
    assert len(code) <= lines


# Mistakes.


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Write a module that only this test can import; return its name."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(text: str) -> str:
        name = f"plugin_{len(list(tmp_path.iterdir()))}_{os.getpid()}_{abs(hash(str(tmp_path)))}"
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(text))
        return name

    return write


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("hwloop_nowhere:Relay", "there is no module hwloop_nowhere; install its package, or add its directory to"),
        ("hwloop.nowhere:Relay", "there is no module hwloop.nowhere; install its package"),
        ("firmware_sim:Devise", "firmware_sim has no Devise; did you mean Device"),
        ("firmware_sim:zzz", "firmware_sim has no zzz; correct the name, or install another version of it"),
        ("firmware_sim.wiring:DEVICES", r"firmware_sim\.wiring:DEVICES: .* is not a class; name the class itself"),
        ("firmware_sim:", "does not name a class; write package.module:Class"),
        ("../evil:Relay", "does not name a class"),
        (":", "does not name a class"),
        ("pathlib:Path", "pathlib:Path is not a device; derive it from firmware_sim.Device"),
        ("firmware_sim:Device", r"firmware_sim:Device is not a dataclass; decorate it with @dataclasses\.dataclass"),
    ],
)
def test_a_type_that_is_no_device_raises_and_says_what_to_do(path: str, message: str) -> None:
    with pytest.raises(WiringError, match=rf"^wiring: device 1: .*{message}"):
        SimBoard({"device": [{"type": path}]})


def test_a_misspelt_type_is_recognized() -> None:
    with pytest.raises(WiringError, match=r"; did you mean button\?;"):
        SimBoard({"device": [{"type": "buttn"}]})


def test_an_unknown_type_names_the_known_ones_and_the_form_of_a_path() -> None:
    with pytest.raises(
        WiringError,
        match=r"unknown type .valve.; .*install the package that provides it, or write package",
    ):
        SimBoard({"device": [{"type": "valve"}]})


RELAY = """
from dataclasses import dataclass, field
from firmware_sim import Connections, Device

@dataclass
class Relay(Device):
    line: int
    delay: float = 0.0
    def attach(self, board: Connections) -> None:
        board.use_line(self.line, "the relay")
"""


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / 0", "importing plugin_.* failed: ZeroDivisionError: division by zero; 'python -c .import plugin_"),
        ("raise BaseException('no')", "importing plugin_.* failed: BaseException: no;"),
        ("import asyncio; raise asyncio.CancelledError", "importing plugin_.* failed: CancelledError;"),
        ("def broken(:", "importing plugin_.* failed: SyntaxError"),
        ("import hwloop_nowhere", "plugin_.* needs the module hwloop_nowhere, which is not installed; install it"),
        (
            RELAY + "    def __post_init__(self): raise RuntimeError('smoke')",
            "calling Relay with line failed: RuntimeError: smoke; its constructor is to blame, not hwloop; 'hwloop ",
        ),
        (RELAY + "    def __post_init__(self): raise ValueError('line must be even')", r"\): line must be even$"),
        (RELAY + "    def __post_init__(self): raise OSError('no log')", "calling Relay with line failed: no log"),
        (RELAY.replace("board.use_line(self.line", "board.use_lime(self.line"), r"Relay\.attach failed: Attribute"),
        (RELAY.replace("def attach", "def atach"), "lacks the method attach; write it, as firmware_sim.Device says"),
        (RELAY.replace("line: int", "line: 'Nothing'"), "the annotations of Relay can't be read: NameError"),
        (RELAY.replace("line: int", "line: complex"), "line must be of type complex, not 5"),
    ],
)
def test_a_broken_device_is_contained_and_named(package: Callable[[str], str], text: str, message: str) -> None:
    with pytest.raises(WiringError, match=rf"(?s)^wiring: device 1.*{message}"):
        SimBoard({"device": [{"type": f"{package(text)}:Relay", "line": 5}]})


@pytest.mark.parametrize("ending", [SystemExit, KeyboardInterrupt])
def test_exits_pass(package: Callable[[str], str], ending: type[BaseException]) -> None:
    with pytest.raises(ending):
        SimBoard({"device": [{"type": f"{package(f'raise {ending.__name__}')}:Relay"}]})


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ("import sys; sys.exit('no pump')", ": importing plugin_"),
        (RELAY + "    def __post_init__(self): raise SystemExit('no pump')", ": calling Relay"),
        (RELAY + "        raise SystemExit('no pump')", "wiring: device 1: Relay.attach"),
    ],
)
def test_a_plugin_that_ends_the_program_is_named(
    package: Callable[[str], str], caplog: pytest.LogCaptureFixture, text: str, call: str
) -> None:
    with pytest.raises(SystemExit, match="no pump"):
        SimBoard({"device": [{"type": f"{package(text)}:Relay", "line": 5}]})
    [message] = caplog.messages
    assert call in message
    assert message.endswith(" called sys.exit('no pump'), which ends the program; let it raise an error instead")


def test_a_device_may_stand_beside_its_board_file(tmp_path: Path, package: Callable[[str], str]) -> None:
    name = package(RELAY)
    sys.path.remove(str(tmp_path))
    (tmp_path / "board.toml").write_text(f'[[device]]\ntype = "{name}:Relay"\nline = 5\n')
    before = list(sys.path)
    with SimBoard(tmp_path / "board.toml") as board:
        assert isinstance(board.devices[0], Device)
    assert sys.path == before


# Boards.


@pytest.fixture
def entry_point(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Install an entry point "bench" of the group of boards."""

    def install(path: str) -> None:
        points = metadata.EntryPoints([metadata.EntryPoint("bench", path, plugins.BOARDS)])
        monkeypatch.setattr(metadata, "entry_points", lambda *, group: points.select(group=group))

    return install


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "there is no module hwloop_nowhere; install its package"),
        ("class Bench: pass", r"board 'bench': plugin_\w+:Bench is not a board; derive it from hwloop\.board\.Board"),
        ("Bench = 5", "5 is not a class"),
        ("1 / 0", "importing plugin_.* failed: ZeroDivisionError"),
        (
            "from hwloop.board import Board\nclass Bench(Board):\n    def __init__(self, port): pass",
            "calling Bench without arguments failed: TypeError: .* missing 1 required positional argument: 'port'",
        ),
        (
            "from hwloop.board import Board\nclass Bench(Board):\n    def __init__(self): pass",
            r"is not set up; let its constructor call super\(\)\.__init__\(\) and set self\.clock",
        ),
    ],
)
def test_a_broken_board_is_contained_and_named(
    package: Callable[[str], str], entry_point: Callable[[str], None], text: str | None, message: str
) -> None:
    entry_point("hwloop_nowhere:Bench" if text is None else f"{package(text)}:Bench")
    with pytest.raises(plugins.PluginError, match=message), boards.using("bench"):
        pass


def test_debug_shows_where_a_constructor_failed(tmp_path: Path, package: Callable[[str], str]) -> None:
    name = package(RELAY + "    def __post_init__(self): raise RuntimeError('smoke')")
    (tmp_path / "board.toml").write_text(f'[[device]]\ntype = "{name}:Relay"\nline = 5\n')
    (tmp_path / "program.py").write_text(DOOR)
    command = [sys.executable, "-m", "hwloop", "run", "program.py", "--board", "board.toml"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    run = functools.partial(subprocess.run, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert "Traceback" not in run(command).stderr
    shown = run([*command, "--debug"]).stderr
    assert f'{name}.py", line 11, in __post_init__\n' in shown
    assert "RuntimeError: smoke\n" in shown


def test_a_board_may_refuse_in_its_own_words(package: Callable[[str], str], entry_point: Callable[[str], None]) -> None:
    text = """
    from hwloop import HardwareError
    from hwloop.board import Board
    class Bench(Board):
        def __init__(self):
            raise HardwareError("the bench", "no power", "switch it on")
    """
    entry_point(f"{package(text)}:Bench")
    with pytest.raises(HardwareError, match="the bench: no power; switch it on"):
        boards.open_board("bench")


def test_a_name_of_hwloop_itself_stays_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """And of two packages with the same name the first one has it. The log names the package that has no effect."""
    for place, name, points in (("a", "shop", "button = shop:B\nfan = shop:Fan"), ("b", "mill", "fan = mill:Fan")):
        about = tmp_path / place / f"{name}-1.dist-info"
        about.mkdir(parents=True)
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (about / "entry_points.txt").write_text(f"[{plugins.DEVICES}]\n{points}\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "a"), str(tmp_path / "b"), *sys.path])
    for _ in range(2):  # the second time, nothing is logged
        with pytest.raises(WiringError, match="unknown key blades"):
            SimBoard({"device": [{"type": "button", "line": 5, "blades": 3}]})
    found = plugins.installed(plugins.DEVICES, ("button", "led"))
    assert (found["fan"], found.get("button")) == ("shop:Fan", None)
    assert caplog.messages == [
        "package shop: the entry point 'button' in hwloop.devices has no effect, because hwloop itself has one of this "
        "name; give it another name",
        "package mill: the entry point 'fan' in hwloop.devices has no effect, because the one of the package shop has "
        "this name; give it another name",
    ]


def test_an_unknown_board_names_those_that_are_installed(entry_point: Callable[[str], None]) -> None:
    entry_point("hwloop_nowhere:Bench")
    message = r"unknown board 'bensh': use auto, linux, sim, bench, or the path .*; did you mean bench\?"
    with pytest.raises(ValueError, match=message):
        boards.open_board("bensh")


BENCH = """
from hwloop.board import Board
class Bench(Board):
    def __init__(self{parameter}):
        super().__init__()
        {body}
"""


def test_a_board_gets_the_clock_if_it_takes_one(
    package: Callable[[str], str], entry_point: Callable[[str], None]
) -> None:
    clock = VirtualClock()
    entry_point(f"{package(BENCH.format(parameter=', *, clock', body='self.clock = clock'))}:Bench")
    assert boards.open_board("bench", clock=clock).clock is clock
    board = boards.open_board("bench")
    assert (board.clock, board.choice) == (REAL, "bench")
    entry_point(f"{package(BENCH.format(parameter='', body='pass'))}:Bench")
    with pytest.raises(plugins.PluginError, match="board 'bench' knows real time only; for virtual time give Bench a"):
        boards.open_board("bench", clock=clock)
    entry_point(f"{package(BENCH.format(parameter=', clock', body='pass'))}:Bench")
    with pytest.raises(plugins.PluginError, match=r"is not set up; .* set self\.clock"):
        boards.open_board("bench", clock=clock)


def test_a_board_without_lines_ports_or_buses_says_so() -> None:
    calls: list[Callable[[Board], Any]] = [
        lambda board: board.open_edges(EdgeRequest([17, 18], consumer="test")),
        lambda board: board.open_output(OutputRequest(17, consumer="test")),
        lambda board: board.serial_port("/dev/ttyUSB0"),
        lambda board: board.open_bus(1),
    ]
    for call in calls:
        with pytest.raises(HardwareError, match=r"the board in use, board, has no .*; choose another board"):
            call(Board())


WRONG = """
from hwloop.board import Board, EdgeStream, OutputLine

class Line(OutputLine):
    def set(self, value): pass
    def get(self): return 0
    def close(self): pass

class Stream(EdgeStream):
    def fileno(self): return 0
    def read(self): return []
    def level(self, line): return 0
    def close(self): pass

class Bench(Board):
    {method}
"""


@pytest.mark.parametrize(
    ("method", "use", "message"),
    [
        (
            "def open_output(self, request): pass",
            "gpio.output(17)",
            "Bench.open_output() returned None; it must return an object of the class OutputLine",
        ),
        (
            "def open_output(self, request): return Line",
            "gpio.output(17)",
            "Bench.open_output() returned Line; it must return an object of the class OutputLine",
        ),
        (
            "async def open_output(self, request): return Line()",
            "gpio.output(17)",
            "Bench.open_output() is a coroutine; the methods of a board are called without await: write def, not "
            "async def",
        ),
        (
            "def open_edges(self, request): return []",
            "gpio.watch(17)",
            "Bench.open_edges() returned []; it must return an object of the class EdgeStream",
        ),
        (
            "def open_edges(self, request): return Stream()",
            "gpio.watch(17)",
            "Bench.open_edges() returned a Stream without the attribute losses; set it in the constructor, as "
            "EdgeStream says",
        ),
        (
            "def serial_port(self, port): return 3",
            "serial.open('gps')",
            "Bench.serial_port() returned 3; it must return an object of the class str",
        ),
        (
            "def open_bus(self, bus): return 5",
            "i2c.open(1)",
            "Bench.open_bus() returned 5; it must return an object of the class SMBus",
        ),
    ],
)
def test_a_wrong_object_of_a_board_is_noticed_at_once(
    package: Callable[[str], str], entry_point: Callable[[str], None], method: str, use: str, message: str
) -> None:
    entry_point(f"{package(WRONG.format(method=method))}:Bench")

    async def main() -> None:
        async with eval(use, {"gpio": gpio, "serial": serial, "i2c": i2c}):
            pass

    with pytest.raises(TypeError) as raised:
        hwloop.run(main(), board="bench")
    assert str(raised.value) == message


@pytest.mark.parametrize(("device", "method"), [("LED", "open_output"), ("Button", "open_edges")])
def test_gpiozero_devices_notice_a_wrong_object_too(device: str, method: str) -> None:
    class Bench(Board):
        revision = 0xC03111

    bench = Bench()
    setattr(bench, method, lambda request: None)
    with LoopFactory(bench) as factory, pytest.raises(TypeError, match=r"\(\) returned None; it must return"):
        getattr(gpiozero, device)(17, pin_factory=factory)
