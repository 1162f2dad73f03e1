"""The rules of docs/architecture.md, checked in the source: imports, composition, size."""

from __future__ import annotations

import ast
import asyncio
import concurrent.futures
import itertools
import subprocess
import sys
import threading
from pathlib import Path

import hwloop
from hwloop.core.bases import LoopBase

ROOT = Path(__file__).parents[1]
CORE = ("hwloop.core", "hwloop.virtual", "hwloop.scheduling", "hwloop.errors")
HARDWARE = ("lgpio", "gpiod", "gpiozero", "serial", "smbus2")


def modules():
    for package in ("hwloop", "firmware_sim"):
        for path in sorted((ROOT / package).rglob("*.py")):
            yield ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"), path


ALL = dict(modules())
TREES = {name: ast.parse(path.read_text(encoding="utf-8")) for name, path in ALL.items()}


def imports(tree, *, late):
    """Yield the modules that a module imports; without `late`, only those that importing it imports too."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            pass
        elif late or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from imports(node, late=late)


def within(name, *packages):
    return any(name == package or name.startswith(package + ".") for package in packages)


def across_layers(module):
    """Yield the modules of ours that a module imports and its layer must not know."""
    ours = {name for name in imports(TREES[module], late=True) if within(name, "hwloop", "firmware_sim")}
    if within(module, *CORE):
        own = next(package for package in CORE if within(module, package))
        yield from (name for name in ours if not within(name, "hwloop.core", "hwloop.errors", own))
    if within(module, "hwloop.sources"):
        forbidden = ("hwloop.boards", "hwloop.cli", "hwloop.service", "hwloop.pins", "hwloop.runner", "firmware_sim")
        yield from (name for name in ours if within(name, *forbidden))
    if within(module, "firmware_sim"):
        seam = (
            "hwloop.board",
            "hwloop.lines",
            "hwloop.onewire_files",
            "hwloop.requests",
            "hwloop.serial_ports",
            "hwloop.spi_device",
            "hwloop.trace_events",
        )
        boards = (
            *seam,
            "hwloop.boards.chip",
            "hwloop.boards.gpiod",
            "hwloop.boards.kernel_output",
            "hwloop.boards.lgpio",
            "hwloop.boards.pwm_output",
            "hwloop.plugins",
        )
        core = ("hwloop.core.find_compiled", "hwloop.core.clock", "hwloop.core.naming")
        allowed = ("firmware_sim", *boards, "hwloop.errors", *core)
        yield from (name for name in ours if not within(name, *allowed))
    elif not within(module, "hwloop.cli", "hwloop.pins.sim", "hwloop.testing"):
        yield from (name for name in ours if within(name, "firmware_sim"))


def test_imports_keep_to_the_layers():
    assert not [f"{module} imports {name}" for module in ALL for name in across_layers(module)]


def test_hardware_packages_are_imported_late():
    """So is hwloop.pins: it is for gpiozero's users alone, its classes are gpiozero's, and nothing else imports it."""
    assert not [
        f"{module} imports {name}"
        for module in ALL
        if within(module, "hwloop") and not within(module, "hwloop.pins")
        for name in imports(TREES[module], late=False)
        if within(name, *HARDWARE, "hwloop.pins")
    ]


def all_imports(module):
    """Return the modules of ours that a module imports anywhere, for type checking too."""
    found = set()
    for node in ast.walk(TREES[module]):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [
                name if (name := f"{node.module}.{alias.name}") in ALL else str(node.module) for alias in node.names
            ]
        found.update(name for name in names if name in ALL)
    return found - {module}


def reachable(module, graph):
    seen, left = set(), [module]
    while left:
        for other in graph[left.pop()] - seen:
            seen.add(other)
            left.append(other)
    return seen


def test_no_modules_import_each_other_not_even_for_type_checking():
    graph = {module: all_imports(module) for module in ALL}
    reach = {module: reachable(module, graph) for module in ALL}
    cycles = []
    for module in ALL:
        cycle = {other for other in reach[module] if module in reach[other]}
        if cycle and cycle not in cycles:
            cycles.append(cycle)
    assert not list(map(sorted, cycles))


COMPOSED = ("hwloop.core", "hwloop.virtual", "hwloop.scheduling")
HARDWARE_SIDE = (
    "hwloop.board",
    "hwloop.board_interface",
    "hwloop.boards",
    "hwloop.lines",
    "hwloop.requests",
    "firmware_sim",
)
STANDARD = {"_replace", "_fields_", "_current_frames", "_count", "_clients"}
"""Underscore names of named tuples, ctypes, `sys`, `_thread`, and of asyncio's server from Python 3.13 on."""


def private_names(*folders):
    """Return the underscore names of the standard library's modules: a subclass has to use some of asyncio's."""
    found = set(STANDARD)
    for folder in folders:
        for path in [folder] if folder.is_file() else folder.glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Attribute):
                    found.add(node.attr)
                elif isinstance(node, ast.ClassDef | ast.FunctionDef):
                    found.add(node.name)
                elif isinstance(node, ast.Name):
                    found.add(node.id)
    return {name for name in found if name.startswith("_")}


def is_own(node):
    """Return whether an attribute is one of the very object: `self._x`, `cls._x`, `super()._x`."""
    value = node.value.func if isinstance(node.value, ast.Call) else node.value
    return isinstance(value, ast.Name) and value.id in ("self", "cls", "super")


def test_no_object_touches_another_objects_private_attributes():
    """The dispatch function is no exception: the queues that it drains are public attributes of the run queue."""
    pools = Path(concurrent.futures.__file__).parent
    allowed = private_names(Path(asyncio.__file__).parent, pools, Path(threading.__file__))
    allowed |= {"_notify_thread", "_file"}  # lgpio names the directory of its FIFOs nowhere else
    assert not [
        f"{name}:{node.lineno}: {ast.unparse(node)}"
        for name, tree in TREES.items()
        if within(name, *COMPOSED, *HARDWARE_SIDE)
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and node.attr.startswith("_") and not node.attr.startswith("__")
        if not is_own(node) and node.attr not in allowed
    ]


def test_the_loop_has_no_mixins():
    """The loop's classes are one line down to asyncio's, so there is one place in which an attribute can be defined.

    `LoopBase` is asyncio's class, or nothing but an extension type where the core is compiled.
    """
    for loop in (hwloop.EventLoop, hwloop.SimLoop):
        ours = [each for each in loop.__mro__[: loop.__mro__.index(asyncio.SelectorEventLoop)] if each is not LoopBase]
        for each, base in itertools.pairwise([*ours, asyncio.SelectorEventLoop]):
            assert set(each.__bases__) <= {base, asyncio.SelectorEventLoop, LoopBase}, each


def test_attributes_of_asyncio_are_declared_in_one_place():
    """No stub block redeclares a neighbour: `if TYPE_CHECKING` only imports, but where asyncio's stubs are lacking."""
    declaring = {
        name
        for name, tree in TREES.items()
        if within(name, *COMPOSED)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        if not all(isinstance(statement, ast.Import | ast.ImportFrom | ast.Assign) for statement in node.body)
    }
    assert declaring == {"hwloop.core.asyncio_base", "hwloop.core.asyncio_loop"}  # the latter: `time`, a property


def test_importing_hwloop_touches_nothing(tmp_path):
    """No hardware package, no thread, no file, no other working directory; and none of ours before it is asked for."""
    script = f"""
import os, sys, threading, asyncio, logging
before = set(os.listdir("/proc/self/fd")), os.getcwd(), threading.active_count()
import hwloop
after = set(os.listdir("/proc/self/fd")), os.getcwd(), threading.active_count()
assert before == after, (before, after)
loaded = [name for name in sys.modules if name.split(".")[0] in {HARDWARE!r}]
assert not loaded, loaded
assert not [name for name in sys.modules if name.startswith(("firmware_sim", "hwloop.boards", "hwloop.cli"))]
from hwloop import gpio, serial, i2c
loaded = [name for name in sys.modules if name.split(".")[0] in {HARDWARE!r}]
assert not loaded, loaded
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)})
    assert list(tmp_path.iterdir()) == []


def test_modules_can_be_read_in_one_sitting():
    lines = {name: len(path.read_text().splitlines()) for name, path in ALL.items()}
    assert not {name for name, count in lines.items() if count > 400}


def test_every_module_says_why_it_exists():
    assert not [name for name, tree in TREES.items() if ALL[name].stat().st_size and not ast.get_docstring(tree)]


REQUESTS = ("EdgeRequest", "OutputRequest")
TOP = ("hwloop.sources", "hwloop.cli")
"""Where programs spell the options of a request, as the arguments of `gpio.watch` and its like."""


def test_the_options_of_a_request_are_defined_once():
    """Below the call that builds a request, the object travels: no function takes its options one by one."""
    classes = [
        (name, node) for name, tree in TREES.items() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)
    ]
    options = {}
    for request in REQUESTS:
        ((module, definition),) = [(name, node) for name, node in classes if node.name == request]
        assert module == "hwloop.requests"
        options[request] = {node.target.id for node in definition.body if isinstance(node, ast.AnnAssign)} - {"_"}
        assert {"consumer", "chip", "active_low"} < options[request]
    spelled = [
        f"{name}.{node.name} takes {', '.join(sorted(taken))}"
        for name, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not within(name, *TOP)
        for each in options.values()
        if len(taken := each & {argument.arg for argument in node.args.args + node.args.kwonlyargs}) > 3
    ]
    assert not spelled


def test_the_c_library_is_loaded_in_one_place():
    loaders = {"CDLL", "PyDLL", "LoadLibrary", "dlopen"}
    found = {
        name
        for name, path in ALL.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute | ast.Name) and getattr(node, "attr", getattr(node, "id", "")) in loaders
    }
    assert found == {"hwloop.core.libc"}
