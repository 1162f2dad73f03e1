"""The import of lgpio, contained. Each test has a process of its own: an import can't be undone."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path
from typing import Any

import pytest

from hwloop.boards.lgpio.module import load_lgpio
from hwloop.errors import HardwareError

ROOT = Path(__file__).parents[1]
LOAD = "import os, sys\nfrom hwloop.boards.lgpio.module import load_lgpio\n"

needs_lgpio = pytest.mark.skipif(importlib.util.find_spec("lgpio") is None, reason="the real lgpio is not installed")


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where the processes under test make their temporary directories."""
    path = tmp_path / "tmp"
    path.mkdir()
    return path


def start(code: str, temporary: Path, cwd: str | Path, path: Path | None = None, **env: str) -> subprocess.Popen[str]:
    search = os.pathsep.join(map(str, [*([path] if path else []), ROOT]))
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", LOAD + textwrap.dedent(code)],
        cwd=cwd,
        env=os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": search, **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(code: str, temporary: Path, cwd: str | Path, path: Path | None = None, **env: str) -> str:
    """Return what a process printed. It must succeed, print no errors and leave nothing in its temporary directory."""
    process = start(code, temporary, cwd, path, **env)
    out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (0, "")
    assert list(temporary.iterdir()) == []
    return out.strip()


@needs_lgpio
def test_the_import_leaves_directory_and_environment_as_they_were(temporary: Path, tmp_path: Path) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    code = f"""
    lgpio, workdir = load_lgpio()
    assert workdir.startswith({str(temporary)!r}), workdir
    assert os.listdir(workdir) == []
    assert os.listdir(".") == []
    assert os.getcwd() == {str(cwd)!r}, os.getcwd()
    assert os.environ["LG_WD"] == "/nonexistent"
    assert load_lgpio() == (lgpio, workdir)
    print(lgpio.get_module_version())
    """
    assert run(code, temporary, cwd, LG_WD="/nonexistent").startswith("lgpio.py_")


@needs_lgpio
def test_it_works_where_nothing_can_be_written(temporary: Path) -> None:
    code = """
    load_lgpio()[0].notify_open()
    print(os.getcwd())
    """
    assert run(code, temporary, "/proc") == "/proc"


@needs_lgpio
def test_it_works_in_a_directory_that_has_been_deleted(temporary: Path, tmp_path: Path) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    code = """
    os.rmdir(os.getcwd())
    load_lgpio()[0].notify_open()
    print(os.readlink("/proc/self/cwd"))
    """
    assert run(code, temporary, cwd) == f"{cwd} (deleted)"


@needs_lgpio
def test_a_services_runtime_directory_comes_first(temporary: Path, tmp_path: Path) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir()
    out = run("print(load_lgpio()[1])", temporary, tmp_path, RUNTIME_DIRECTORY=f"/nonexistent:{runtime}")
    assert Path(out).parent == runtime
    assert list(runtime.iterdir()) == []


@needs_lgpio
def test_two_processes_in_one_directory_do_not_share_a_fifo(temporary: Path, tmp_path: Path) -> None:
    code = """
    lgpio, workdir = load_lgpio()
    print(workdir, lgpio.notify_open(), flush=True)
    sys.stdin.read()
    """
    processes = [start(code, temporary, tmp_path) for _ in range(2)]
    outs = [process.communicate(timeout=30)[0].split() for process in processes]
    assert [out[1] for out in outs] == ["1", "1"]
    assert outs[0][0] != outs[1][0]


@needs_lgpio
def test_if_the_program_imported_it_before_its_directory_is_found(temporary: Path, tmp_path: Path) -> None:
    cwd = tmp_path / "cwd"
    cwd.mkdir()
    code = """
    import lgpio
    os.chdir("/")
    print(load_lgpio()[1], load_lgpio()[0] is lgpio)
    """
    assert run(code, temporary, cwd) == f"{cwd} True"


@needs_lgpio
def test_a_forked_child_leaves_the_directory_to_its_parent(temporary: Path, tmp_path: Path) -> None:
    code = """
    import warnings
    warnings.simplefilter("ignore", DeprecationWarning)  # lgpio has a thread, so Python warns of forks
    workdir = load_lgpio()[1]
    child = os.fork()
    if child == 0:
        sys.exit()
    os.waitpid(child, 0)
    print(os.path.isdir(workdir))
    """
    assert run(code, temporary, tmp_path) == "True"


@needs_lgpio
def test_reports_from_the_real_module_are_decoded(temporary: Path, tmp_path: Path) -> None:
    """The chip is simulated, the FIFO is the real lgpio's, and its reports are written as its thread would."""
    code = """
    import struct, time
    from firmware_sim.libraries.lgpio.api import Lgpio
    from firmware_sim.pins import Chip
    from firmware_sim.timeline import Timeline
    from hwloop.board import EdgeRequest
    from hwloop.boards.lgpio.chip import LgpioChip
    from hwloop.boards.lgpio.edges import watch_lines

    lgpio, workdir = load_lgpio()

    class Half(Lgpio):
        def notify_open(self):
            return lgpio.notify_open()

        def notify_close(self, handle):
            return lgpio.notify_close(handle)

    fds = set(os.listdir("/proc/self/fd"))
    simulated = Half(Chip(Timeline(), label="test", lines=28))
    chip = LgpioChip(simulated, number=0, workdir=workdir)
    stream = watch_lines(chip, EdgeRequest([17], consumer="x", pull="up"))
    assert os.listdir(workdir) == []
    theirs = os.open(f"/proc/self/fd/{stream.fileno()}", os.O_WRONLY)
    report = struct.pack("QBBBBI", time.monotonic_ns(), 0, 17, 0, 0, 0)
    os.write(theirs, report[:7])
    assert stream.read() == []
    os.write(theirs, report[7:])
    print([(edge.line, edge.value, edge.lost) for edge in stream.read()])
    os.close(theirs)
    stream.close()
    chip.close()
    simulated.close()
    assert set(os.listdir("/proc/self/fd")) == fds
    """
    assert run(code, temporary, tmp_path) == "[(17, 0, 0)]"


def test_a_missing_package_is_named_with_the_way_to_get_it(temporary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lgpio", None)
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for version, way in [
        ((3, 12), "pip install 'lgpio>=0.2.2.0', or apt install"),
        ((3, 13), "apt install python3-lgpio"),
    ]:
        monkeypatch.setattr(sys, "version_info", version)
        with pytest.raises(HardwareError, match=f"^import lgpio: the package is not installed; {way}"):
            load_lgpio()
    assert list(temporary.iterdir()) == []


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "lgpio.py is an empty placeholder, not lgpio (version 0.0.0.2 on PyPI is one)"),
        ("raise ImportError('libfoo.so is missing')", "import lgpio: libfoo.so is missing"),
        ("open('/nonexistent/fifo')", "No such file or directory: '/nonexistent/fifo'"),
    ],
)
def test_a_package_that_is_not_lgpio_raises(temporary: Path, tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "lgpio.py").write_text(source)
    code = """
    from hwloop import HardwareError
    before = os.getcwd(), os.listdir("/proc/self/fd")
    try:
        load_lgpio()
    except HardwareError as error:
        print(error)
    assert before == (os.getcwd(), os.listdir("/proc/self/fd"))
    """
    assert message in run(code, temporary, tmp_path, tmp_path, PYTHONDONTWRITEBYTECODE="1")


def test_no_directory_for_the_fifos_is_an_error_that_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(**options: Any) -> str:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.delitem(sys.modules, "lgpio", raising=False)
    monkeypatch.setattr(tempfile, "mkdtemp", refuse)
    with pytest.raises(HardwareError, match=r"none could be made: .*; set TMPDIR to a directory that can be written"):
        load_lgpio()
