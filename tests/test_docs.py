"""What README.md and docs/ say is so: their Python runs, and the names, options, files and links in them are there.

A Python block of a page is a whole program, or the inside of one; what it takes for given stands in GIVEN and MADE. All
run on the simulated board, in virtual time for a few seconds. The comment `<!-- alternatives -->` before a block says
that its lines don't belong together: such a block is only compiled, and its names are looked up.
"""

from __future__ import annotations

import ast
import asyncio
import importlib.util
import inspect
import os
import re
import sys
import tomllib
import types
from fnmatch import fnmatch
from pathlib import Path

import gpiozero
import pytest

import firmware_sim
import hwloop
from hwloop import gpio, i2c, serial, service
from hwloop.cli import COMMANDS, main
from hwloop.sources import Source

ROOT = Path(__file__).parents[1]
PAGES = [
    page
    for page in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
    if not page.is_symlink()
]
BOARD = """
[[device]]
type = "button"
line = 17
press_every = 0.5

[[device]]
type = "wire"
lines = [23, 24]

[[device]]
type = "gps"
port = "/dev/ttyAMA0"

[[device]]
type = "modbus-temperature"
port = "/dev/ttyUSB0"

[[device]]
type = "bme280"
address = 0x76
"""


class Block:
    """A fenced block of Python; `page:line` names it."""

    def __init__(self, page, match):
        text = page.read_text(encoding="utf-8")
        line = text.count("\n", 0, match.start()) + 2
        self.name = f"{page.name}:{line}"
        self.text = match["text"]
        self.alternatives = bool(match["alternatives"])
        self.code = compile_block(self.text, self.name)


def compile_block(text, name):
    return compile(text, name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


FENCED = re.compile(r"(?P<alternatives><!-- alternatives -->\n)?```python\n(?P<text>.*?)```", re.DOTALL)
OLD = ("README.md", "architecture.md")  # fmt: skip
BLOCKS = [
    Block(page, match)
    for page in PAGES
    if page.name in OLD
    for match in FENCED.finditer(page.read_text(encoding="utf-8"))
]


# What the blocks take for given. A function makes what needs a running loop, or has to be closed.


async def nothing(*_):
    pass


class Pipe:
    """A source of the least kind."""

    def __init__(self):
        self.fds = os.pipe()

    def fileno(self):
        return self.fds[0]

    def on_readable(self):
        pass

    def close(self):
        for fd in self.fds:
            os.close(fd)


def late_pump():
    pass


def a_loop_that_was_late():
    loop = asyncio.get_running_loop()
    late_pump.__qualname__ = "pump"
    loop.call_deadline(loop.time() - 0.5, late_pump)
    return loop


def a_driver_that_blocks():
    driver = types.ModuleType("bme280")
    driver.load_calibration_params = lambda smbus, address: smbus.read_i2c_block_data(address, 0x88, 24)
    driver.sample = lambda smbus, address, calibration: smbus.read_byte_data(address, 0xD0)
    return driver


def example(name):
    spec = importlib.util.spec_from_file_location("own_source", ROOT / "examples" / "own_source.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return getattr(module, name)


MODULES = {
    "asyncio": asyncio,
    "firmware_sim": firmware_sim,
    "gpio": gpio,
    "hwloop": hwloop,
    "i2c": i2c,
    "os": os,
    "serial": serial,
    "service": service,
}
GIVEN = MODULES | {
    "INPUT_EVENT": example("INPUT_EVENT"),
    "Key": example("Key"),
    "Priority": hwloop.Priority,
    "SimBoard": firmware_sim.SimBoard,
    "Source": Source,
    "callback": print,
    "control": nothing,
    "device": types.SimpleNamespace(receive=print),
    "give_up": print,
    "lamp": types.SimpleNamespace(toggle=print),
    "main": nothing,
    "process": types.SimpleNamespace(wait=nothing),
    "reading": i2c.Reading(None, 0, 0, 0),
    "rows": range(3),
    "set_volume": print,
    "work": print,
}
MADE = {
    "bus": lambda: i2c.open(1).open(),
    "loop": a_loop_that_was_late,
    "source": Pipe,
    "task": lambda: asyncio.create_task(nothing()),
}


def run_inside(code, namespace):
    """Run a block as the inside of a program, with the `main` that it defines, for five seconds of virtual time."""

    failures = []

    async def program():
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: failures.append(context))
        made = {name: make() for name, make in MADE.items() if name in code.co_names}
        await asyncio.sleep(0.1)
        namespace.update(made)
        try:
            async with asyncio.timeout(5):
                waiting = eval(code, namespace)
                if inspect.iscoroutine(waiting):
                    await waiting
                if namespace["main"] is not nothing:
                    await namespace["main"]()
        except TimeoutError:
            pass  # it goes on for as long as it is let
        for name in ("bus", "smbus", "board", "source"):
            if name in namespace and hasattr(namespace[name], "close"):
                namespace[name].close()

    hwloop.run(program(), board="board.toml", clock="virtual")
    assert not failures


@pytest.mark.parametrize("block", [block for block in BLOCKS if not block.alternatives], ids=lambda block: block.name)
def test_the_python_of_the_pages_runs(block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "board.toml").write_text(BOARD)
    (tmp_path / "blink.py").write_text("import lgpio\nlgpio.gpiochip_close(lgpio.gpiochip_open(0))\n")
    monkeypatch.setitem(sys.modules, "bme280", a_driver_that_blocks())
    monkeypatch.setattr(gpiozero.Device, "pin_factory", None)
    namespace = dict(GIVEN)
    text = block.text.replace("\nhwloop.run(main())\n", "\n")
    if "hwloop.run(" in text:
        exec(block.code, namespace)
    else:
        run_inside(compile_block(text, block.name), namespace)
    for name, value in namespace.items():
        if name.startswith("test_"):
            value()
    if gpiozero.Device.pin_factory is not None:
        gpiozero.Device.pin_factory.close()


# Names.

PYTHON = [*(ROOT / "hwloop").rglob("*.py"), *(ROOT / "tests" / "kernel").rglob("*.py")]
CODE = "".join(path.read_text(encoding="utf-8") for path in PYTHON)
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")
OPTION = re.compile(r"(?<!\S)\[?`?(--[a-z][a-z-]+)")
SOURCES = {"loop": hwloop.SimLoop, **MODULES}
DOTTED = re.compile(rf"(?<![\w./-])(?:{'|'.join(SOURCES)})(?:\.[A-Za-z_]\w*)+(?![\w/])(?<!\.py)")


def names_in(text):
    """What the text calls by a dotted name: in code, inline or fenced."""
    code = re.findall(r"```.*?```|`[^`\n]+`", text, re.DOTALL)
    return {name for part in code for name in DOTTED.findall(part)}


def exists(name):
    first, *rest = name.split(".")
    found = SOURCES[first]
    for attribute in rest:
        if isinstance(found, types.ModuleType) and not hasattr(found, attribute):
            try:
                importlib.import_module(f"{found.__name__}.{attribute}")
            except ImportError:
                return False
        if not hasattr(found, attribute):
            return False
        found = getattr(found, attribute)
    return True


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_names_on_the_pages_exist(page):
    text = page.read_text(encoding="utf-8")
    assert not [name for name in names_in(text) if not exists(name)]
    variables = set(re.findall(r"\bHWLOOP_[A-Z_]+", text))
    assert not [name for name in variables if name not in CODE]
    targets = set(re.findall(r"`make ([a-z-]+)`|^    make ([a-z-]+)", text, re.MULTILINE))
    assert not [name for pair in targets for name in pair if name and f"\n{name}:" not in MAKEFILE]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_on_the_pages_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" not in target:
            path, _, anchor = target.partition("#")
            file = page.parent / path if path else page
            assert file.exists(), target
            assert not anchor or anchor in anchors(file), target
    for path in re.findall(
        r"(?<![\w/])(?:benchmarks|docs|examples|deploy|systemd|tests|hwloop|firmware_sim)/[\w./@-]+\w", text
    ):
        assert (ROOT / path).exists() or path == "tests/test_door.py", path  # that one is somebody's


def anchors(page):
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("command", COMMANDS)
def test_the_page_of_the_commands_has_every_option_and_no_other(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    options = set(re.findall(r"^  (?:-h, )?(--[a-z-]+)", capsys.readouterr().out, re.MULTILINE))
    page = (ROOT / "docs" / "cli.md").read_text(encoding="utf-8")
    section = re.search(rf"^## hwloop {command}$(.*?)(?=^## |\Z)", page, re.MULTILINE | re.DOTALL)[1]
    assert options - {"--help", "--debug"} <= set(OPTION.findall(section))
    for call in re.findall(rf"^(?:\$ )?hwloop {command}.*(?:\n {{8,}}.*)*", section, re.MULTILINE):
        assert set(OPTION.findall(call.partition(" -- ")[0])) <= options


def test_the_page_of_the_house_has_every_module():
    listed = re.findall(r"[\w*]+\.py", (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8"))
    modules = [*(ROOT / "hwloop").rglob("[a-z]*.py"), *(ROOT / "firmware_sim").rglob("[a-z]*.py")]
    assert not [path.name for path in modules if not any(fnmatch(path.name, pattern) for pattern in listed)]


def test_the_reference_has_every_public_name():
    pages = (ROOT / "docs" / "reference").glob("*.md")
    listed = set(
        re.findall(r"^::: ([\w.]+)$", "".join(page.read_text(encoding="utf-8") for page in pages), re.MULTILINE)
    )
    for name in [*hwloop.__all__, "EventLoopPolicy"]:
        value = getattr(hwloop, name) if name in hwloop.__all__ else None
        path = value.__name__ if isinstance(value, types.ModuleType) else f"hwloop.{name}"
        inside = {path, *(f"hwloop.{base}" for base in ("sources",) if name in ("Backoff", "RateLimit"))}
        assert listed & inside or any(one.startswith(f"{path}.") for one in listed), name


def test_the_pictures_are_drawn_from_their_source():
    spec = importlib.util.spec_from_file_location("draw", ROOT / "docs" / "images" / "draw.py")
    draw = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(draw)
    for name, text in draw.pictures().items():
        file = ROOT / "docs" / "images" / name
        assert file.read_text(encoding="utf-8") == text, "run python docs/images/draw.py"


def test_the_changes_are_told_once():
    entries = re.findall(r"^- (.{0,25})", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert len(entries) == len(set(entries)), [entry for entry in entries if entries.count(entry) > 1]


def test_every_package_is_installed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for package in ("hwloop", "firmware_sim", "hwloop_bench")
        for path in (ROOT / package).rglob("*.py")
    }
    assert set(project["tool"]["setuptools"]["packages"]) == found | {"hwloop.examples"}
