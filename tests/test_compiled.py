"""The compiled core: it runs if it is there, HWLOOP_PURE=1 runs the sources, and both behave as asyncio expects.

The tests of what both do stand elsewhere: `make test-compiled` runs all tests on the compiled core.
"""

from __future__ import annotations

import ast
import asyncio
import compileall
import importlib
import os
import re
import shutil
import subprocess
import sys
import weakref
import zipapp
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import hwloop
from firmware_sim import SimBoard
from hwloop import compiled_core, doctor
from hwloop.core import LIBRARY
from hwloop.doctor.machine import Machine

ROOT = Path(__file__).parents[1]
CORE = ROOT / "hwloop" / "core"
PACKAGES = [ROOT / package for package in compiled_core.PACKAGES]
MODULES = sorted(path for folder in PACKAGES for path in folder.glob("*.pxd") if path.stem != "native")

needs_compiled = pytest.mark.skipif(
    not (CORE / LIBRARY).exists() and "HWLOOP_EXPECT_COMPILED" not in os.environ,
    reason="the core is not compiled here: make compiled",
)


def reported(**environment: str) -> list[str]:
    """Return how a new process says that its core would run and runs, and the file of its dispatch function."""
    program = (
        "import hwloop; from hwloop.core import core_kind; before = core_kind(); from hwloop.core import dispatch\n"
        "loop = hwloop.new_event_loop(); print(before, loop.statistics().core, dispatch.__file__); loop.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


@needs_compiled
@pytest.mark.parametrize("pure", ["", "0"])
def test_a_compiled_core_runs_and_reports_it(pure: str) -> None:
    before, core, file = reported(HWLOOP_PURE=pure)
    assert (before, core, Path(file).suffix) == ("compiled", "compiled", ".so")


def test_the_environment_chooses_the_sources() -> None:
    before, core, file = reported(HWLOOP_PURE="1")
    assert (before, core, Path(file)) == ("pure", "pure", CORE / "dispatch.py")


@needs_compiled
def test_the_compiled_modules_are_those_of_the_sources() -> None:
    """`make compiled` keeps a copy of what it has compiled, in which one import is another one."""
    for source in (path for module in MODULES for path in module.parent.glob(f"{module.stem}.p*")):
        if source.suffix == ".py" and source.with_suffix(".pyx").exists():
            continue
        copy = ROOT / "build" / "core" / source.relative_to(ROOT)
        compiled = copy.read_text().replace("from cython.cimports.hwloop", "from hwloop")
        assert compiled == source.read_text(), f"{source.name} has changed: run make compiled again"


@needs_compiled
@pytest.mark.parametrize("emptied", [False, True])
def test_each_module_with_types_is_found_in_the_library_of_its_package(emptied: bool) -> None:
    """The packages name them. A module that is left out would run from its source, beside compiled ones.

    Programs may empty Python's cache of finders.
    """
    names = [".".join(path.relative_to(ROOT).with_suffix("").parts) for path in MODULES]
    program = "import importlib, sys\nfor name in sys.argv[1:]: print(importlib.import_module(name).__file__)"
    if emptied:
        packages = ", ".join(sorted({name.rpartition(".")[0] for name in names}))
        program = f"import {packages}, sys; sys.path_importer_cache.clear()\n{program}"
    done = subprocess.run(
        [sys.executable, "-c", program, *names],
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(path.with_name(LIBRARY)) for path in MODULES]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.name)
def test_a_package_names_the_modules_that_have_types_and_no_other(package: Path) -> None:
    """Another one would be looked for in the library, in vain, instead of not being found."""
    tree = ast.parse((package / "__init__.py").read_text())
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    [named] = [call.args[1] for call in calls if getattr(call.func, "id", "") == "find_compiled"]
    assert ast.literal_eval(named) == [module.stem for module in MODULES if module.parent == package]


def run_main(where: Path, **environment: str) -> str:
    """Run the `__main__` of a directory or archive with a hwloop of its own. Return which core that has."""
    done = subprocess.run(
        [sys.executable, "-S", where],
        env={"HWLOOP_PURE": "", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def own_copy(tmp_path: Path) -> Path:
    """A directory with the packages, and a program that shows which core is theirs."""
    for name in ("hwloop", "firmware_sim"):
        shutil.copytree(ROOT / name, tmp_path / "copy" / name, ignore=shutil.ignore_patterns("__pycache__"))
    program = (
        "import hwloop, firmware_sim.devices, hwloop.virtual.clock\nprint(hwloop.core.core_kind(), hwloop.__file__)"
    )
    (tmp_path / "copy" / "__main__.py").write_text(program)
    return tmp_path / "copy"


@pytest.mark.parametrize("pure", ["", "1"])
def test_it_runs_from_bytecode_without_the_sources(own_copy: Path, pure: str) -> None:
    """As small systems install Python's packages."""
    compileall.compile_dir(own_copy, quiet=1, legacy=True)
    for source in own_copy.rglob("*.py"):
        source.unlink()
    kind = "compiled" if (CORE / LIBRARY).exists() and not pure else "pure"
    assert run_main(own_copy, HWLOOP_PURE=pure) == f"{kind} {own_copy / 'hwloop' / '__init__.pyc'}"


@pytest.mark.parametrize("pure", ["", "1"])
def test_it_runs_from_an_archive(own_copy: Path, tmp_path: Path, pure: str) -> None:
    for library in own_copy.rglob(LIBRARY):
        library.unlink()  # a zip archive holds none that could be loaded
    archive = tmp_path / "app.pyz"
    zipapp.create_archive(own_copy, archive)
    assert run_main(archive, HWLOOP_PURE=pure) == f"pure {archive / 'hwloop' / '__init__.py'}"


def test_a_core_that_is_older_than_its_sources_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HWLOOP_PURE", raising=False)
    monkeypatch.setattr(compiled_core, "core_kind", lambda: "compiled")
    for package in compiled_core.PACKAGES:
        (tmp_path / package).mkdir(parents=True)
    core, virtual = tmp_path / "hwloop" / "core", tmp_path / "hwloop" / "virtual"
    for number, path in enumerate([core / "a.py", core / "other.py", core / LIBRARY, virtual / LIBRARY]):
        path.touch()
        os.utime(path, (0, number))
    os.utime(core / "other.py", (0, 9))  # which is not compiled
    assert not compiled_core.is_outdated(tmp_path), "installed: there are no types"
    (core / "a.pxd").touch()
    os.utime(core / "a.pxd", (0, 0))
    assert not compiled_core.is_outdated(tmp_path)
    os.utime(core / "a.py", (0, 3))
    assert compiled_core.is_outdated(tmp_path)
    monkeypatch.setattr(compiled_core, "is_outdated", lambda root: True)
    assert_reported(monkeypatch, "compiled core, older than its sources", "run make compiled")


def assert_reported(monkeypatch: pytest.MonkeyPatch, text: str, remedy: str) -> None:
    """Assert what `hwloop --version` and the doctor say about the core."""
    assert compiled_core.core_state() == f"{text}: {remedy}"
    [finding, *_] = doctor.examine(Machine())
    assert (finding.topic, finding.status, finding.remedy) == ("hwloop", "warning", remedy)
    assert f", {text}, on Python" in finding.text


@pytest.mark.parametrize("place", ["hwloop/core", "firmware_sim"])
def test_a_core_with_a_part_missing_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str) -> None:
    monkeypatch.delenv("HWLOOP_PURE", raising=False)
    monkeypatch.setattr(compiled_core, "core_kind", lambda: "pure" if place == "hwloop/core" else "compiled")
    monkeypatch.setattr(compiled_core, "ROOT", tmp_path)
    for package in compiled_core.PACKAGES:
        (tmp_path / package).mkdir(parents=True)
        (tmp_path / package / LIBRARY).touch()
    state = compiled_core.core_state()
    assert state.endswith(" core"), "it is complete"
    (tmp_path / place / LIBRARY).unlink()
    assert_reported(monkeypatch, "compiled core, with a part missing", "install hwloop again")
    (tmp_path / "tools").mkdir()
    (tmp_path / "tools" / "compile_core.py").touch()
    assert_reported(monkeypatch, "compiled core, with a part missing", "run make compiled")
    monkeypatch.setenv("HWLOOP_PURE", "1")
    assert compiled_core.core_state() == state, "the sources were asked for"


def test_the_packages_that_are_compiled_are_those_that_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    assert importlib.import_module("compile_core").PACKAGES == PACKAGES


def test_a_pure_core_is_never_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled_core, "core_kind", lambda: "pure")
    (tmp_path / "hwloop" / "core").mkdir(parents=True)
    for name in ("a.py", "a.pxd", LIBRARY):
        (tmp_path / "hwloop" / "core" / name).touch()
    os.utime(tmp_path / "hwloop" / "core" / LIBRARY, (0, 0))
    assert not compiled_core.is_outdated(tmp_path)


def test_no_compiled_class_has_both_a_dictionary_and_weak_references() -> None:
    """From Python 3.12 on, Cython declares each of the two in a table of its own, and a type may have one table."""
    for module in MODULES:
        for body in re.split(r"^cdef class ", module.read_text(), flags=re.M)[1:]:
            own = [name for name in ("__dict__", "__weakref__") if re.search(rf"^    cdef \w+ {name}$", body, re.M)]
            assert len(own) < 2, f"{module.name}: {body.splitlines()[0]} {own}"


def test_tests_may_watch_and_patch_the_objects_of_a_simulated_board() -> None:
    """On either core: weak references, attributes of the test's own, and replaced methods, which the board calls."""
    with SimBoard() as board:
        line, port, bus = board.line(17), board.add_port("/dev/ttyAMA0"), board.bus(1)
        things: list[Any] = [line, port, bus, board.timeline]
        for thing in things:
            thing.note = weakref.ref(thing)
            assert thing.note() is thing
        notified: list[int] = []
        line.notify = lambda level, when_ns: notified.append(level)  # type: ignore[method-assign]
        for level in (1, 0, 1):
            line.drive(level)
    assert notified[-2:] == [0, 1]


def test_handles_are_asyncios() -> None:
    loop = hwloop.new_event_loop()
    soon, later = loop.call_soon(print), loop.call_later(1, print)
    assert isinstance(soon, asyncio.Handle)
    assert not isinstance(soon, asyncio.TimerHandle)
    assert isinstance(later, asyncio.TimerHandle)
    assert repr(soon) == "<Handle print()>"
    assert repr(later).startswith("<TimerHandle when=")
    assert repr(later).endswith(" print()>")
    assert later == later
    assert later <= loop.call_later(2, print)
    assert hash(later) == hash(later.when())
    assert weakref.ref(soon)() is soon
    assert [soon._callback, soon._args, soon._source_traceback] == [print, (), None]  # type: ignore[attr-defined]
    soon.cancel()
    assert soon.cancelled()
    assert repr(soon) == "<Handle cancelled>"
    loop.close()


def test_handles_that_are_not_hwloops_run() -> None:
    """Test helpers queue asyncio's own."""
    loop = hwloop.new_event_loop()
    ran: list[str] = []

    def fail() -> None:
        raise ValueError("failed")

    reports: list[str] = []
    loop.set_exception_handler(lambda loop, report: reports.append(str(report["exception"])))
    cancelled = asyncio.Handle(ran.append, ("cancelled",), loop)
    cancelled.cancel()
    ready = loop._ready  # type: ignore[attr-defined]
    ready.extend([asyncio.Handle(ran.append, ("ran",), loop), cancelled, asyncio.Handle(fail, (), loop)])
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    assert ran == ["ran"]
    assert reports == ["failed"]


UNREADY = """
import hwloop

class Eager(hwloop.EventLoop):
    def __init__(self):
        try:
            {call}
        except AttributeError as error:
            print("raised", error)
        super().__init__()

Eager().close()
"""


@pytest.mark.parametrize(
    "call",
    [
        "self.call_soon(print)",
        "self.call_later(1, print)",
        "self.call_at(1, print)",
        "self.call_soon_threadsafe(print)",
        "self._run_once()",
    ],
)
def test_a_loop_that_is_used_before_it_is_initialised_raises(call: str) -> None:
    """Compiled, its parts are still None, and C must not look into them. In a process: it would not survive that."""
    program = UNREADY.format(call=call)
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout.partition(" ")[0]) == (0, "raised"), done.stderr


@needs_compiled
def test_an_object_of_a_compiled_core_can_not_be_copied() -> None:
    """Its descriptors would be owned twice."""
    program = "import copy, hwloop; loop = hwloop.new_event_loop(); copy.copy(loop._timers)"
    variables = {**os.environ, "HWLOOP_PURE": ""}
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, env=variables, capture_output=True, text=True)
    assert "TypeError: " in done.stderr


BUILDER = """
import compile_core
import setuptools
library = setuptools.Extension("package._compiled", ["module.c"])
command = compile_core.builder()(setuptools.Distribution({"ext_modules": [library]}))
command.build_lib, command.build_temp = "made", "objects"
command.ensure_finalized()
command.run()
"""


def test_a_library_is_linked_again_after_one_of_its_sources_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise `make compiled` would leave the core of the first call, and date it as new.

    In a process, because setuptools can't be imported after Python's own distutils.
    """
    if find_spec("setuptools") is None:
        pytest.skip("setuptools is not installed: pip install '.[compile]'")
    monkeypatch.syspath_prepend(ROOT / "tools")
    if problem := importlib.import_module("compile_core").obstacle():
        pytest.skip(problem)

    def build(text: str) -> bytes:
        (tmp_path / "module.c").write_text(f'const char *text = "{text}";')
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "tools")}
        subprocess.run([sys.executable, "-c", BUILDER], cwd=tmp_path, env=environment, check=True, capture_output=True)
        return (tmp_path / "made" / "package" / LIBRARY).read_bytes()

    assert b"as it was" in build("as it was")
    assert b"as it is now" in build("as it is now")
