"""The build backend: a wheel with the compiled core where that is possible, else a pure one, and always a working one.

Wheels are built from the sdist, as pip does, in environments without hwloop's own variables. `make test-wheels` tries
them on other machines.
"""

from __future__ import annotations

import importlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TYPES = sorted(
    path for folder in ("firmware_sim", "hwloop") for path in (ROOT / folder).rglob("*.pxd") if path.stem != "native"
)
LIBRARIES = sorted({str(path.relative_to(ROOT).with_name("_compiled")) for path in TYPES})
NOT_COMPILED = "hwloop: the core is not compiled, and runs from its Python sources: "
REPORT = """
import hwloop
loop = hwloop.new_event_loop()
print(loop.statistics().core, hwloop.__file__)
loop.close()
"""
REPACK = """
import sys
from hwloop.deployment.own_wheel import pack_own_wheel
with open(sys.argv[1], "wb") as file:
    file.write(pack_own_wheel().data)
"""

pytestmark = pytest.mark.slow


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a build; coverage does not measure it."""
    ours = ("COVERAGE_", "HWLOOP_", "PYTHON", "CC", "CFLAGS")
    return {name: value for name, value in os.environ.items() if not name.startswith(ours)} | more


def call(tree: Path, hook: str, *arguments: str, missing: str = "", **more: str) -> tuple[Any, str]:
    """Call a hook of the backend in a process of its own, as pip does; return its answer, and what it wrote to stderr.

    Parameters:
        tree: the directory of the project.
        hook: the name of the hook.
        arguments: its arguments.
        missing: a module that can't be imported.
        more: variables of the environment.
    """
    program = (
        f"import json, sys; sys.modules[{missing!r}] = None; import build_backend\n"
        f"print(json.dumps(build_backend.{hook}(*{arguments!r})))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tree,
        env=environment(PYTHONPATH=str(tree / "tools"), **more),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The unpacked sdist of a checkout in which `make compiled` has been called."""
    checkout, target = (tmp_path_factory.mktemp(name) for name in ("checkout", "sdist"))
    for name in ("hwloop", "firmware_sim", "hwloop_bench", "examples", "tools"):
        shutil.copytree(ROOT / name, checkout / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    for name in ("pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, checkout)
    (checkout / "hwloop" / "core" / f"_compiled{EXTENSION_SUFFIXES[0]}").touch()
    name, _ = call(checkout, "build_sdist", str(target))
    with tarfile.open(target / name) as archive:
        archive.extractall(target, filter="data")
    return target / name.removesuffix(".tar.gz")


def built(tree: Path, directory: Path, missing: str = "", **more: str) -> tuple[str, list[str], str]:
    """Build a wheel without a warning and unpack it.

    Return the tag, the modules that are compiled, and the reason if none is.
    """
    name, said = call(tree, "build_wheel", str(directory), missing=missing, **more)
    assert "warning: " not in said
    with zipfile.ZipFile(directory / name) as archive:
        archive.extractall(directory)
    compiled = sorted(str(path.relative_to(directory)) for path in directory.rglob("*.so"))
    reasons = [line.removeprefix(NOT_COMPILED) for line in said.splitlines() if line.startswith(NOT_COMPILED)]
    return name.removeprefix("hwloop-").partition("-")[2].removesuffix(".whl"), compiled, "\n".join(reasons)


def run(installed: Path, *words: str, **more: str) -> str:
    """Return what Python prints where the unpacked wheel is installed."""
    variables = environment(PYTHONPATH=str(installed), **more)
    command = [sys.executable, *words]
    return subprocess.run(command, cwd="/", env=variables, capture_output=True, text=True, check=True).stdout


def reported(installed: Path, **more: str) -> tuple[str, str]:
    """Return which core the unpacked wheel runs, by the loop and by the command."""
    core, file = run(installed, "-c", REPORT, **more).split()
    assert Path(file).is_relative_to(installed)
    return core, run(installed, "-m", "hwloop", "--version", **more).partition("(")[2].partition(")")[0]


def test_a_wheel_has_the_compiled_core_or_on_request_runs_the_sources(tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("Cython", reason="pip install '.[compile]'")
    # Quicker than what users get: the last option counts.
    compiler = tmp_path / "cc"
    compiler.write_text('#!/bin/sh\nexec cc "$@" -O0\n')
    compiler.chmod(0o755)
    tag, compiled, reason = built(tree, tmp_path, CC=str(compiler))
    assert reason == ""
    assert compiled == [f"{name}{EXTENSION_SUFFIXES[0]}" for name in LIBRARIES]
    assert tag.startswith("cp3")
    assert "-linux_" in tag
    assert reported(tmp_path) == ("compiled", "compiled core")
    assert reported(tmp_path, HWLOOP_PURE="1") == ("pure", "pure core")
    # The wheel that it makes of itself, for the environments of services, has the same.
    run(tmp_path, "-c", REPACK, str(tmp_path / "own.whl"))
    with zipfile.ZipFile(tmp_path / "own.whl") as archive:
        archive.extractall(tmp_path / "own")
    assert reported(tmp_path / "own") == ("compiled", "compiled core")


def test_a_wheel_has_no_module_that_an_earlier_build_has_left(tree: Path, tmp_path: Path) -> None:
    left = tree / "build" / "lib" / "hwloop" / "removed.py"
    left.parent.mkdir(parents=True)
    left.touch()
    built(tree, tmp_path, HWLOOP_PURE="1")
    assert (tmp_path / "hwloop" / "__init__.py").exists()
    assert not (tmp_path / "hwloop" / "removed.py").exists()
    shutil.rmtree(tree / "build")


def test_a_chosen_pure_wheel_fits_every_machine_and_reports_the_choice(tree: Path, tmp_path: Path) -> None:
    assert built(tree, tmp_path, HWLOOP_PURE="1") == ("py3-none-any", [], "HWLOOP_PURE is set")
    assert reported(tmp_path) == ("pure", "pure core")
    assert not list(tmp_path.rglob("*.p[xy][dx]")), "only a compilation needs them"


def test_without_a_compiler_the_wheel_is_pure_and_the_reason_is_reported(tree: Path, tmp_path: Path) -> None:
    tag, compiled, reason = built(tree, tmp_path, CC="/nowhere/cc -pthread")
    assert (tag, compiled) == ("py3-none-any", [])
    assert reason == "there is no C compiler /nowhere/cc; on Debian: apt install gcc"


def test_an_empty_choice_of_a_compiler_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    compile_core = importlib.import_module("compile_core")
    monkeypatch.setenv("CC", " ")
    monkeypatch.setattr(compile_core.sysconfig, "get_config_var", {"CC": "/nowhere/cc -pthread"}.get)
    assert compile_core.obstacle().startswith("there is no C compiler /nowhere/cc")


def test_a_free_threaded_python_keeps_running_without_its_lock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "tools")
    compile_core = importlib.import_module("compile_core")
    monkeypatch.setattr(compile_core.sysconfig, "get_config_var", {"CC": "true", "Py_GIL_DISABLED": 1}.get)
    assert compile_core.obstacle().startswith("a compiled core would switch on the interpreter lock")


def test_without_cython_the_wheel_is_pure_and_the_reason_is_reported(tree: Path, tmp_path: Path) -> None:
    tag, compiled, reason = built(tree, tmp_path, missing="Cython", CC="true")
    assert (tag, compiled) == ("py3-none-any", [])
    assert reason == "Cython is not installed; install it with: pip install '.[compile]'"


def test_a_compilation_that_fails_leaves_a_pure_wheel_that_works(tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("Cython", reason="pip install '.[compile]'")
    tag, compiled, reason = built(tree, tmp_path, CC="false")
    assert (tag, compiled) == ("py3-none-any", [])
    assert reason.startswith("the compilation failed: ")
    assert reported(tmp_path) == ("pure", "pure core")


def test_ctrl_c_ends_the_build_without_a_wheel(tree: Path, tmp_path: Path) -> None:
    pytest.importorskip("Cython", reason="pip install '.[compile]'")
    compiler = tmp_path / "cc"
    compiler.write_text(f"#!/bin/sh\nmkdir '{tmp_path}/once' && kill -INT $PPID\nsleep 1\nexit 1\n")
    compiler.chmod(0o755)
    with pytest.raises(AssertionError, match="interrupted"):
        built(tree, tmp_path, CC=str(compiler))
    assert not list(tmp_path.glob("*.whl"))


def test_cython_is_asked_for_only_where_it_would_be_used(tree: Path) -> None:
    def wants(hook: str, **more: str) -> bool:
        return any(each.startswith("Cython") for each in call(tree, f"get_requires_for_build_{hook}", **more)[0])

    assert wants("wheel", CC="true")
    assert not wants("wheel", CC="/nowhere/cc")
    assert not wants("wheel", CC="true", HWLOOP_PURE="1")
    assert not wants("editable", CC="true")
    assert not wants("sdist", CC="true")


def test_an_editable_install_is_pure(tree: Path, tmp_path: Path) -> None:
    name, _ = call(tree, "build_editable", str(tmp_path), CC="/nowhere/cc")
    assert name.endswith("-py3-none-any.whl")
    assert not list(tree.rglob("*.so"))


@pytest.mark.parametrize(("types", "source"), [("", "def f(:\n"), ("cdef clas Odd:\n", "")])
def test_a_mistake_in_a_source_is_shown_without_a_traceback(tmp_path: Path, types: str, source: str) -> None:
    pytest.importorskip("Cython")
    (tmp_path / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "compile_core.py", tmp_path / "tools")
    for package in ("hwloop", "hwloop/core"):
        (tmp_path / package).mkdir(parents=True, exist_ok=True)
        (tmp_path / package / "__init__.py").touch()
    (tmp_path / "hwloop" / "core" / "odd.pxd").write_text(types)
    (tmp_path / "hwloop" / "core" / "odd.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "tools/compile_core.py"], cwd=tmp_path, env=environment(), capture_output=True, text=True
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "hwloop/core/odd.p" in done.stderr
    assert done.stderr.endswith("the core can't be compiled: correct the error shown above\n")
