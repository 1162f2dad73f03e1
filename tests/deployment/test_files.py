"""Files of root: trusted directories, whole files, and modes that no umask changes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hwloop.deployment.files import (
    UnsafePathError,
    check_trusted,
    make_directory,
    make_readable,
    remove,
    write_file,
    write_link,
)


def test_the_directories_of_a_system_are_trusted() -> None:
    check_trusted(Path("/etc/hwloop/door/environment"))
    check_trusted(Path("/usr/bin/env"))


def test_a_sticky_directory_is_trusted_for_what_is_ours(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    check_trusted(shared / "new" / "file")
    (shared / "ours").mkdir()
    check_trusted(shared / "ours" / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_a_sticky_directory_is_not_trusted_for_the_files_of_others(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    (shared / "theirs").mkdir(parents=True)
    shared.chmod(0o1777)
    os.chown(shared / "theirs", 12345, -1)
    with pytest.raises(UnsafePathError, match="others than its owner may write to"):
        check_trusted(shared / "theirs" / "file")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of other users")
def test_a_directory_of_a_group_is_not_trusted(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    os.chown(shared, 0, 12345)
    shared.chmod(0o775)
    with pytest.raises(UnsafePathError, match="sudo chmod go-w"):
        check_trusted(shared / "file")


def test_a_link_is_followed_to_the_directories_that_it_leads_to(tmp_path: Path) -> None:
    loose = tmp_path / "loose"
    loose.mkdir()
    (tmp_path / "link").symlink_to("loose")
    check_trusted(tmp_path / "link" / "file")
    loose.chmod(0o777)
    with pytest.raises(UnsafePathError, match="loose"):
        check_trusted(tmp_path / "link" / "file")


def test_links_in_a_circle_end_in_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    with pytest.raises(UnsafePathError, match="too many symbolic links"):
        check_trusted(tmp_path / "a" / "file")


def test_a_file_in_the_place_of_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnsafePathError, match="file is a file where a directory is needed"):
        make_directory(tmp_path / "file" / "below")
    with pytest.raises(UnsafePathError, match="file is a file where a directory is needed"):
        make_directory(tmp_path / "file")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "unit"
    write_file(path, b"one", 0o640)
    assert path.stat().st_mode & 0o777 == 0o640

    def full(descriptor: int) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        write_file(path, b"two")
    assert path.read_bytes() == b"one"
    assert os.listdir(tmp_path) == ["unit"]


def test_a_file_replaces_a_link_instead_of_the_file_that_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "target").write_text("kept")
    (tmp_path / "unit").symlink_to("target")
    write_file(tmp_path / "unit", b"new")
    assert (tmp_path / "target").read_text() == "kept"
    assert not (tmp_path / "unit").is_symlink()


def test_a_link_replaces_the_one_before_it(tmp_path: Path) -> None:
    write_link(tmp_path / "current", "release-1")
    write_link(tmp_path / "current", "release-2")
    assert os.readlink(tmp_path / "current") == "release-2"


def test_removing_a_missing_path_does_nothing(tmp_path: Path) -> None:
    assert not remove(tmp_path / "nothing")
    (tmp_path / "link").symlink_to("nowhere")
    assert remove(tmp_path / "link")


def test_everybody_may_read_an_environment_and_only_its_owner_change_it(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir(0o700)
    (tmp_path / "bin" / "tool").touch(0o700)
    (tmp_path / "module.py").touch(0o666)
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "bin" / "tool").chmod(0o6777)
    make_readable(tmp_path)
    modes = {path.name: path.stat().st_mode & 0o7777 for path in tmp_path.rglob("*") if not path.is_symlink()}
    assert modes == {"bin": 0o755, "tool": 0o755, "module.py": 0o644}
