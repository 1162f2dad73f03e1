"""Preparing and checking a release: the version, the changelog, and what the distributions must hold."""

from __future__ import annotations

import datetime
import importlib.util
import io
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest

import hwloop

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("release", ROOT / "tools" / "release.py")
release = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(release)

TODAY = datetime.date(2027, 1, 31)


@pytest.fixture
def checkout(tmp_path):
    (tmp_path / "hwloop").mkdir()
    (tmp_path / "hwloop" / "__init__.py").write_text('"""It."""\n\n__version__ = "0.1.9"\nx = 1\n')
    (tmp_path / "CHANGELOG.md").write_text(
        "# Changes\n\n## Unreleased\n\n### Added\n- This.\n\n## 0.1.9 - 2026-11-29\n"
    )
    return tmp_path


def test_the_version_stands_in_one_place():
    assert release.current_version(ROOT) == hwloop.__version__
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "hwloop.__version__"}


def test_preparing_sets_the_version_and_names_the_section_of_the_changelog(checkout):
    release.prepare(checkout, "0.1.10", TODAY)
    assert (checkout / "hwloop" / "__init__.py").read_text() == '"""It."""\n\n__version__ = "0.1.10"\nx = 1\n'
    expected = "# Changes\n\n## Unreleased\n\n## 0.1.10 - 2027-01-31\n\n### Added\n- This.\n\n## 0.1.9 - 2026-11-29\n"
    assert (checkout / "CHANGELOG.md").read_text() == expected


@pytest.mark.parametrize("version", ["0.1.9", "0.1.8", "0.2", "v0.2.0", "0.2.0rc1", ""])
def test_a_version_that_does_not_follow_changes_nothing(checkout, version):
    before = (checkout / "CHANGELOG.md").read_text()
    with pytest.raises(release.ReleaseError, match=r"does not follow 0\.1\.9|is not a version"):
        release.prepare(checkout, version, TODAY)
    assert release.current_version(checkout) == "0.1.9"
    assert (checkout / "CHANGELOG.md").read_text() == before


def test_a_release_without_described_changes_is_an_error(checkout):
    release.prepare(checkout, "0.2.0", TODAY)
    with pytest.raises(release.ReleaseError, match="nothing under Unreleased"):
        release.prepare(checkout, "0.3.0", TODAY)
    (checkout / "CHANGELOG.md").write_text("# Changes\n")
    with pytest.raises(release.ReleaseError, match="no section '## Unreleased'"):
        release.prepare(checkout, "0.3.0", TODAY)
    assert release.current_version(checkout) == "0.2.0"


def packed(folder, in_sdist, in_wheel):
    with zipfile.ZipFile(folder / "it.whl", "w") as wheel:
        for name in in_wheel:
            wheel.writestr(name, "")
    with tarfile.open(folder / "it.tar.gz", "w:gz") as sdist:
        for name in in_sdist:
            sdist.addfile(tarfile.TarInfo(f"hwloop-0.1.9/{name}"), io.BytesIO())
    return folder / "it.tar.gz", [folder / "it.whl"]


def test_distributions_that_lack_a_file_of_the_package_are_an_error(checkout):
    (checkout / "firmware_sim").mkdir()
    run = ["hwloop/__init__.py", "hwloop/py.typed", "README.md"]
    sources = [*run, "hwloop/it.pyx", "firmware_sim/it.pxd"]
    for name in sources:
        (checkout / name).touch()
    release.complete(*packed(checkout, sources, run), checkout)
    with pytest.raises(release.ReleaseError, match=r"it\.whl lacks hwloop/py\.typed; see \[tool\.setuptools\]"):
        release.complete(*packed(checkout, sources, ["hwloop/__init__.py"]), checkout)
    with pytest.raises(release.ReleaseError, match=r"it\.tar\.gz lacks firmware_sim/it\.pxd; .* MANIFEST\.in"):
        release.complete(*packed(checkout, sources[:-1], run), checkout)


def test_a_failing_command_is_an_error_that_names_it(tmp_path):
    assert release.run("echo", "it", capture=True) == "it\n"
    with pytest.raises(release.ReleaseError, match=r"false 1: ended with status 1"):
        release.run("false", "1", cwd=tmp_path)
