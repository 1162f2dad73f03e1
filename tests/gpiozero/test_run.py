"""The verdict of tests/gpiozero/run.py."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

spec = importlib.util.spec_from_file_location("gpiozero_run", Path(__file__).with_name("run.py"))
run = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = run
spec.loader.exec_module(run)


def test_a_test_that_passes_with_the_mock_alone_counts_as_lost():
    mock = {"a": "passed", "b": "passed", "c": "failed", "d": "skipped", "e": "passed"}
    sim = {"a": "passed", "b": "failed", "c": "failed", "d": "skipped"}
    assert run.lost_tests(mock, sim, {}) == ["b [SimFactory]", "e [SimFactory]"]


def test_a_real_pin_test_that_fails_or_passes_with_the_mock_alone_counts_as_lost():
    real = {
        "t[mock]": "passed",
        "t[hwloop]": "skipped",
        "t[hwloop-sim]": "passed",
        "u[mock]": "skipped",
        "u[hwloop]": "passed",
        "u[hwloop-sim]": "failed",
        "v": "passed",
    }
    assert run.lost_tests({}, {}, real) == ["t[hwloop]", "u[hwloop-sim]"]


def test_an_archive_with_another_checksum_is_rejected(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "DOWNLOADS", tmp_path)
    with pytest.raises(run.Refused, match="no hash is known of gpiozero 0"):
        run.fetch("0")
    version = next(iter(run.HASHES))
    (tmp_path / f"gpiozero-{version}.tar.gz").write_bytes(b"something else")
    with pytest.raises(run.Refused, match="has the SHA-256"):
        run.fetch(version)
