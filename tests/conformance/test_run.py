"""The conformance run itself: it must find what is wrong, or its silence is worth nothing."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

pytestmark = pytest.mark.slow  # each runs CPython's tests in processes

RUN = Path(__file__).with_name("run.py")
THREAD_TESTS = "test.test_asyncio.test_threads.ToThreadTests"
TEST = f"{THREAD_TESTS}.test_to_thread_args_kwargs"


def load_run() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance_run", RUN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


run = load_run()
needs_tests = pytest.mark.skipif(
    run.probe(sys.executable) is None,
    reason="this Python has no test.test_asyncio (Debian: apt install libpython3.N-testsuite)",
)


def conform(*arguments: str) -> tuple[int, str]:
    """The status and the output of one run with this interpreter."""
    command = [sys.executable, str(RUN), "--python", sys.executable, "--seconds", "2", *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=120)
    return done.returncode, done.stdout


def faulty(name: str) -> str:
    return f"--loop=tests.conformance.faulty_loops:{name}"


def verdict(stock: str, ours: str, version: str = "3.11") -> object:
    """Return the verdict of a run of TEST alone on one version."""
    interpreter = run.Interpreter("python", version, f"{version}.0")
    return run.Verdict(interpreter, {TEST: run.Outcome(TEST, stock)}, {TEST: run.Outcome(TEST, ours)})


@needs_tests
def test_the_stock_loop_does_not_differ_from_itself() -> None:
    status, output = conform("--only", f"{THREAD_TESTS}", "--loop", "asyncio:SelectorEventLoop")
    assert status == 0, output
    assert "0 differences" in output


@needs_tests
def test_a_test_that_fails_on_ours_alone_is_a_difference() -> None:
    status, output = conform("--only", TEST, faulty("Forgetful"))
    assert status == 1
    assert f"run again: {TEST}: alone, attempt 1: passes on the stock loop, not on ours" in output
    assert f"DIFFERENCE: {TEST}: fail" in output


@needs_tests
@pytest.mark.parametrize("fault", ["Hanging", "Crashing"])
def test_a_test_that_hangs_or_crashes_does_not_affect_other_tests(fault: str) -> None:
    python, loop = run.probe(sys.executable), f"tests.conformance.faulty_loops:{fault}"
    outcomes = run.run_module(python, "test_threads", loop, 0.5, "")
    assert outcomes.pop(TEST).outcome == "hang or crash"
    assert len(outcomes) == 5
    assert all(outcome.passed for outcome in outcomes.values())


@needs_tests
def test_a_difference_that_does_not_recur_is_tolerated_and_reported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FAULTY_LOOP_MARK", str(tmp_path / "made"))
    status, output = conform("--only", TEST, faulty("Once"))
    assert status == 0, output
    assert f"run again: {TEST}: alone, 3 of 3 attempts pass on ours: let go" in output


@needs_tests
def test_a_run_in_which_the_loop_was_not_used_fails() -> None:
    status, output = conform("--only", "test_protocols", faulty("Forgetful"))
    assert status == 1
    assert "NOT REPLACED: no loop of the class under test was made" in output


@needs_tests
def test_a_stock_loop_made_in_spite_of_the_replacement_fails_the_run() -> None:
    status, output = conform("--only", TEST, faulty("Evaded"))
    assert status == 1
    assert f"NOT REPLACED: a stock selector loop was made in {TEST}" in output


@needs_tests
def test_a_missing_loop_class_is_rejected() -> None:
    status, output = conform(faulty("NoSuchLoop"))
    assert status == 2
    assert "NoSuchLoop" in output


def test_a_missing_interpreter_is_rejected() -> None:
    done = subprocess.run([sys.executable, str(RUN), "--python", "/no/python"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "/no/python" in done.stderr


def test_an_exception_is_stale_where_its_test_passes() -> None:
    exception = run.ExceptedTest(TEST, "reason", ("3.11",))
    assert run.stale_exceptions([exception], [verdict("pass", "pass")]) == [f"{TEST}: passes on 3.11.0"]
    assert run.stale_exceptions([exception], [verdict("pass", "fail")]) == []
    assert run.stale_exceptions([exception], [verdict("pass", "pass", "3.13")]) == []


def test_an_exception_is_stale_where_its_test_does_not_exist_or_fails_on_the_stock_loop_too() -> None:
    gone = run.ExceptedTest(f"{THREAD_TESTS}.test_gone", "reason", ())
    assert run.stale_exceptions([gone], [verdict("pass", "fail")]) == [f"{THREAD_TESTS}.test_gone: no such test"]
    useless = run.ExceptedTest(TEST, "reason", ())
    assert run.stale_exceptions([useless], [verdict("error", "fail")]) == [
        f"{TEST}: the stock loop of 3.11.0 fails it too"
    ]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('[[exception]]\ntest = "test.test_asyncio.x"\n', "reason"),
        ('[[exception]]\ntest = "test_x"\nreason = "r"\n', "full id"),
        ('[[exception]]\ntest = "test.test_asyncio.x"\nreason = "r"\n' * 2, "twice"),
        ("".join(f'[[exception]]\ntest = "test.test_asyncio.{n}"\nreason = "r"\n' for n in range(16)), "at most 15"),
    ],
    ids=["no-reason", "no-full-id", "duplicate", "too-many"],
)
def test_an_invalid_list_of_exceptions_is_rejected(tmp_path: Path, text: str, complaint: str) -> None:
    path = tmp_path / "exceptions.toml"
    path.write_text(text)
    with pytest.raises(run.Refused, match=complaint):
        run.load_exceptions(path)
