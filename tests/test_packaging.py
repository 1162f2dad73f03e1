"""Debian's package: what can be checked without building it. `make test-deb` builds and installs it."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path
from types import ModuleType

import pytest

from hwloop.cli import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = (ROOT / "packaging/requirements.txt").read_text(encoding="utf-8")


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / "packaging" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=;\s]", line)[0].lower() for line in requirements}


def test_the_package_has_all_requirements_in_the_versions_of_ci_with_hashes() -> None:
    packed = [each for each in re.split(r"\n(?=\w)", REQUIREMENTS) if not each.startswith("#")]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert names(project["dependencies"]) <= names(packed)
    constraints = (ROOT / ".ci/constraints.txt").read_text(encoding="utf-8").splitlines()
    for each in packed:
        assert re.split(r"[;\s]", each)[0] in constraints, (
            "renew packaging/requirements.txt as well: versions and hashes"
        )
        assert "--hash=sha256:" in each


def test_a_lock_keeps_the_names_and_their_limits_and_renews_versions_and_hashes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = load("lock")
    monkeypatch.setattr(lock, "REQUIREMENTS", tmp_path / "requirements.txt")
    lock.REQUIREMENTS.write_text(
        '# heading\nlgpio==0.1; python_version < "3.13" \\\n    --hash=sha256:old\nsmbus2==0.1\n'
    )
    monkeypatch.setattr(lock.deb, "ROOT", tmp_path)
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/constraints.txt").write_text("lgpio==1\nother==1\nsmbus2==0.6.1\n")
    monkeypatch.setattr(lock, "wheels", lambda requirement, python, machine: [f"{requirement[:5]}-{machine}"])
    lock.main()
    assert lock.REQUIREMENTS.read_text() == (
        "# heading\n"
        'lgpio==1; python_version < "3.13" \\\n    --hash=sha256:lgpio-aarch64 \\\n    --hash=sha256:lgpio-x86_64\n'
        "smbus2==0.6.1 \\\n    --hash=sha256:smbus-aarch64 \\\n    --hash=sha256:smbus-x86_64\n"
    )


def test_the_requirements_depend_on_the_python_of_the_release() -> None:
    for_python = load("deb").for_python
    assert "lgpio==" in for_python(REQUIREMENTS, "3.11")
    assert "python_version" not in for_python(REQUIREMENTS, "3.11")
    assert "lgpio==" not in for_python(REQUIREMENTS, "3.13")
    assert "gpiod==" in for_python(REQUIREMENTS, "3.13")


def test_the_man_page_describes_every_command() -> None:
    page = load("manpage").man_page()
    for name, text in COMMANDS.items():
        assert f".SS hwloop {name}\n" in page
        assert f"{text[1:]}.\n".replace("-", "\\-") in page
    assert not [line for line in page.splitlines() if len(line) > 120]
    assert "\n'" not in page, "troff would take it for a request"
