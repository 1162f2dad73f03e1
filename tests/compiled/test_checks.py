"""The checks of the compiled core find what they are there for: a leak, a crash, a difference, misuse of memory."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "tests" / "compiled"


def python(*arguments: str, cwd: Path = ROOT, **environment: str) -> tuple[int, str]:
    """Run Python; return its status and what it prints."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    return done.returncode, done.stdout


LEAKS = """
import ctypes, os, threading
kept = []

def test_that_keeps_an_object():
    kept.append(object())

def test_that_keeps_a_reference():
    ctypes.pythonapi.Py_IncRef(ctypes.py_object([1, 2, 3]))

def test_that_opens_a_descriptor():
    os.open("/dev/null", os.O_RDONLY)

def test_that_starts_a_thread():
    threading.Thread(target=threading.Event().wait, daemon=True).start()

def test_that_keeps_some():
    kept[:] = [object()] * 100 if len(kept) != 100 else []
"""


def test_repeated_tests_show_what_each_leaves_behind(tmp_path: Path) -> None:
    file = tmp_path / "test_leaks.py"
    file.write_text(LEAKS)
    status, out = python("tests/compiled/repeated.py", "--rounds", "6", str(file))
    assert status == 1
    found = dict(re.findall(r"::test_that_(\w+) leaves behind in each round at least (.*)", out))
    assert found.keys() == {"keeps_an_object", "keeps_a_reference", "opens_a_descriptor", "starts_a_thread"}, out
    assert "1 descriptors" in found["opens_a_descriptor"]
    assert "1 threads" in found["starts_a_thread"]


def test_repeated_tests_that_leave_nothing_pass_and_one_that_fails_does_not(tmp_path: Path) -> None:
    file = tmp_path / "test_others.py"
    file.write_text("def test_good():\n    assert True\n")
    status, out = python("tests/compiled/repeated.py", "--rounds", "3", str(file))
    assert (status, "passed: 1 tests" in out) == (0, True), out
    file.write_text("def test_bad():\n    assert False\n")
    status, out = python("tests/compiled/repeated.py", "--rounds", "3", str(file))
    assert (status, "test_bad fails when it is repeated" in out) == (1, True), out


PLAYER = """
import json, os, sys, time
compiled = not os.environ["HWLOOP_PURE"]
for line in sys.stdin:
    names = [action[0] for action in json.loads(line)["actions"]]
    if compiled and "bug" in names and "cause" in names:
        os.kill(os.getpid(), 11)
    if "exit" in names:
        os._exit(3)
    print(json.dumps([name.upper() if compiled and name == "odd" else name for name in names]), flush=True)
"""
FUZZ = """
import json, os, sys, types
sys.path.insert(0, "tests/compiled")
import fuzz
from pathlib import Path
checkout = types.SimpleNamespace(
    python=sys.executable, path=Path(sys.argv[1]), environment=lambda **more: {**os.environ, **more}
)
both = fuzz.Both(checkout)
program = {"stage": True, "actions": json.loads(sys.argv[2])}
failure = both.failure(program)
print(failure)
print(json.dumps(fuzz.shrink(both, program, failure)[0]["actions"]) if failure else both.endless)
both.end()
"""


@pytest.mark.parametrize(
    ("names", "message", "smallest"),
    [
        (["a", "bug", "b", "c", "cause", "d"], "the compiled core: status -11", [["bug"], ["cause"]]),
        (["a", "odd", "b"], "they differ in line 1", [["odd"]]),
        (["a", "b"], "", 0),
        (["a", "exit"], "", 1),
    ],
)
def test_the_fuzzer_shows_the_smallest_program_that_fails(
    tmp_path: Path, names: list[str], message: str, smallest: object
) -> None:
    player = tmp_path / "tests" / "compiled" / "player.py"
    player.parent.mkdir(parents=True)
    player.write_text(PLAYER)
    status, out = python("-c", FUZZ, str(tmp_path), json.dumps([[name] for name in names]))
    assert status == 0, out
    assert out.startswith(message)
    assert json.loads(out.splitlines()[-1]) == smallest


@pytest.mark.parametrize("content", [None, "not JSON"])
def test_a_program_that_can_not_be_read_is_reported_before_anything_is_compiled(
    tmp_path: Path, content: str | None
) -> None:
    file = tmp_path / "program.json"
    if content is not None:
        file.write_text(content)
    status, out = python("tests/compiled/fuzz.py", "--program", str(file), "--python", "/nowhere")
    assert (status, f"can't read the program {file}: " in out) == (2, True), out


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("fuzz.py --seconds 0", "--seconds must be more than 0, not 0"),
        ("run.py sanitize --seconds -1", "--seconds must be more than 0, not -1"),
        ("run.py leaks --rounds 0", "--rounds must be 1 or more, not 0"),
    ],
)
def test_a_check_that_would_check_nothing_is_rejected(command: str, message: str) -> None:
    script, *arguments = command.split()
    status, out = python(str(HERE / script), *arguments)
    assert (status, message in out) == (2, True), out


def test_a_machine_without_gcc_runs_no_sanitizer(tmp_path: Path) -> None:
    status, out = python(str(HERE / "run.py"), "sanitize", PATH=str(tmp_path))
    assert (status, out) == (69, "not run: gcc has no address sanitizer here; on Debian: apt install gcc libasan8\n")
    status, out = python(str(HERE / "fuzz.py"), "--sanitize", PATH=str(tmp_path))
    assert (status, "--sanitize: gcc has no address sanitizer here" in out) == (2, True), out


def test_a_copied_checkout_has_the_files_of_today(tmp_path: Path) -> None:
    checkout = tmp_path / "checkout"
    for name in ("tools/compile_core.py", "core/a.py", "core/a.pxd", "core/b.pyx", "core/kept.py"):
        path = checkout / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import os; os.makedirs('build/core', exist_ok=True); open('build/core/a.pxd', 'w').close()")
    (checkout / ".gitignore").write_text("build/")
    subprocess.run(["git", "init", "-q", str(checkout)], check=True)
    code = (
        f"import pathlib, sys; sys.path.insert(0, {str(HERE)!r}); import copied_checkout\n"
        "copied_checkout.ROOT = pathlib.Path.cwd(); copied_checkout.CopiedCheckout('copy').make()"
    )
    copy = checkout / "build" / "compiled" / "copy"
    assert python("-c", code, cwd=checkout) == (0, "")
    assert {path.name for path in (copy / "core").iterdir()} == {"a.py", "a.pxd", "b.pyx", "kept.py"}
    for name in ("a.py", "a.pxd", "b.pyx"):
        (checkout / "core" / name).unlink()
    assert python("-c", code, cwd=checkout) == (0, "")
    assert {path.name for path in (copy / "core").iterdir()} == {"kept.py"}
    assert (copy / "build" / "core" / "a.pxd").exists()  # what was compiled before


def test_a_program_leaves_the_same_trace_each_time() -> None:
    """Otherwise no difference would mean anything. The same on the compiled core is what `make fuzz` checks."""
    code = (
        "import json, sys; sys.path.insert(0, 'tests/compiled'); from programs import Writer\n"
        "found = [Writer(seed).program() for seed in range(200)]\n"
        "print(*(json.dumps(each) for each in found if each['stage']), sep='\\n')"
    )
    _, programs = python("-c", code)
    traces = []
    for seed in ("0", "1"):
        played = subprocess.run(
            [sys.executable, str(HERE / "player.py")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            input=programs,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=200,
        )
        traces.append(played.stdout.splitlines())
    assert len(traces[0]) == len(programs.splitlines()) > 100
    assert traces[0] == traces[1]


def test_objects_that_nobody_should_use_so_kill_no_process() -> None:
    status, out = python("tests/compiled/odd_objects.py", "--seed", "0")
    assert (status, out.splitlines()[-1]) == (0, "survived"), out[-2000:]


MISUSED = "#include <stdlib.h>\nint main(void) { char *p = malloc(8); free(p); return p[0]; }\n"


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("gcc") is None, reason="there is no gcc")
def test_a_report_of_the_sanitizer_fails_the_run_whatever_its_process_returns(tmp_path: Path) -> None:
    source, program = tmp_path / "misused.c", tmp_path / "misused"
    source.write_text(MISUSED)
    code = f"""
import subprocess, sys
sys.path.insert(0, "tests/compiled")
import run
from copied_checkout import SANITIZED, sanitized, sanitizer_library
if not sanitizer_library():
    sys.exit("none")
subprocess.run(["gcc", *SANITIZED, "-o", {str(program)!r}, {str(source)!r}], check=True)
run.REPORTS = run.ROOT / {str(tmp_path / "reports")!r}
run.REPORTS.mkdir()
checkout = sanitized(reports=run.REPORTS / "asan")
checkout.path = run.ROOT
run.run(checkout, "-c", "pass")
try:
    run.run(checkout, "-c", "import subprocess; subprocess.run([{str(program)!r}])")
except run.Failed as failed:
    print("failed:", failed)
"""
    status, out = python("-c", code)
    if out.strip() == "none":
        pytest.skip("gcc has no address sanitizer here")
    assert status == 0, out
    assert "heap-use-after-free" in out
    assert "failed: status 0, 1 reports" in out
