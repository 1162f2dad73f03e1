"""Paths that a service can't see, each with its reason, and Pythons that no environment can be made from."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from hwloop.deployment.interpreter import Interpreter, InterpreterError, inspect
from hwloop.deployment.visibility import Mount, Visibility


class Mounted(Visibility):
    """This machine with other mounts."""

    def mounts(self) -> list[Mount]:
        return [Mount("/", frozenset(), "ext4"), *self.others]

    others: list[Mount]


def mounted(kind: str, *options: str, booted: bool = False) -> Mounted:
    """Return a machine with a file system below /opt/python."""
    visibility = Mounted(booted=booted)
    visibility.others = [Mount("/opt/python", frozenset(options), kind)]
    return visibility


@pytest.mark.parametrize("path", ["/home/pi/.local/python", "/root/.pyenv/python", "/tmp/x", "/run/user/1000/x"])
def test_a_path_that_units_hide_is_an_obstacle(path: str) -> None:
    assert "which services can't see" in Visibility().obstacle(path)


def test_a_directory_of_a_similar_name_is_none() -> None:
    assert Visibility().obstacle("/homepage/python") == ""


def test_a_link_into_a_home_directory_is_an_obstacle_in_an_image_too(tmp_path: Path) -> None:
    (tmp_path / "opt").mkdir()
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "python").write_text("")
    (tmp_path / "opt" / "python").symlink_to("../home/python")
    assert (
        Visibility(str(tmp_path)).obstacle("/opt/python")
        == "/opt/python (it leads to /home/python) is below /home, which services can't see"
    )


def test_a_directory_that_others_may_not_enter_is_an_obstacle(tmp_path: Path) -> None:
    python = tmp_path / "srv" / "private" / "python"
    python.parent.mkdir(parents=True)
    python.touch(0o755)
    python.parent.chmod(0o700)
    visibility = Visibility(str(tmp_path))
    assert visibility.obstacle("/srv/private/python") == "/srv/private may not be entered by other users than its owner"
    python.parent.chmod(0o711)
    assert visibility.obstacle("/srv/private/python", executable=True) == ""
    python.chmod(0o750)
    assert "python may not be read by other users" in visibility.obstacle("/srv/private/python", executable=True)


@pytest.mark.parametrize(
    ("visibility", "problem"),
    [
        (mounted("tmpfs"), "is in memory"),
        (mounted("ext4", "noexec"), "is mounted with noexec"),
        (mounted("fuse.sshfs"), "which nobody sees but the user that mounted it"),
        (mounted("ext4", booted=True), "was mounted by hand and is missing after a restart"),
    ],
)
def test_a_mount_that_a_service_does_not_find_is_an_obstacle(visibility: Visibility, problem: str) -> None:
    assert problem in visibility.obstacle("/opt/python/bin/python3", executable=True)


def test_an_ordinary_mount_is_none() -> None:
    assert mounted("ext4").obstacle("/opt/python/bin/python3", executable=True) == ""
    assert mounted("fuse.sshfs", "allow_other").obstacle("/opt/python/bin/python3") == ""


def test_the_mounts_of_a_machine_are_read_with_their_escapes(tmp_path: Path) -> None:
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "mountinfo").write_text(
        "1 0 8:1 / / rw - ext4 /dev/root rw\n"
        "2 1 0:5 / /mnt/my\\040disk rw,noexec shared:1 - ext4 /dev/sda rw,x\nbroken\n"
    )
    assert Visibility(str(tmp_path)).mounts() == [
        Mount("/", frozenset({"rw"}), "ext4"),
        Mount("/mnt/my disk", frozenset({"rw", "noexec", "x"}), "ext4"),
    ]


def test_an_interpreter_answers_for_the_python_below_its_environment() -> None:
    found = inspect(sys.executable)
    assert found.version == sys.version_info[:3]
    assert not found.executable.startswith(sys.prefix + os.sep) or sys.prefix == sys.base_prefix
    assert os.path.isfile(os.path.join(found.library, "os.py"))


def test_a_python_below_a_home_directory_is_an_obstacle() -> None:
    assert "below /root" in Interpreter("/root/.pyenv/bin/python", (3, 11, 7), "/usr/lib", "").obstacle(Visibility())
    assert "below /home" in Interpreter("/usr/bin/env", (3, 11, 7), "/home/x/lib", "").obstacle(Visibility())


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("exit 3", "does not work as Python: it ended with status 3"),
        ("echo broken >&2; exit 1", "does not work as Python: broken"),
        ("echo no", "does not answer as Python does"),
        ("echo '[1]'", "does not answer as Python does"),
        (
            """echo '{"executable": "/x", "version": [3, 9, 2], "library": "/x", "abi": "x"}'""",
            r"is Python 3\.9\.2; hwloop needs 3\.11 or later",
        ),
    ],
)
def test_a_python_that_does_not_serve_says_why(tmp_path: Path, text: str, problem: str) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{text}\n")
    python.chmod(0o755)
    with pytest.raises(InterpreterError, match=f"{problem}.*; choose another one with --python"):
        inspect(str(python))


def test_a_missing_python_says_so() -> None:
    with pytest.raises(InterpreterError, match="/nowhere/python: no such file or directory"):
        inspect("/nowhere/python")
