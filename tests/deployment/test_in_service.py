"""The unit of a process, from its control group."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwloop.cli.in_service import unit_of_process


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/hwloop-door.service\n", "hwloop-door.service"),
        ("0::/system.slice/hwloop-door.service/workers\n", "hwloop-door.service"),
        ("12:cpu:/\n1:name=systemd:/system.slice/door.service\n", "door.service"),
        ("0::/user.slice/session-1.scope\n", ""),
        ("", ""),
    ],
)
def test_the_unit_is_the_last_service_in_the_control_group(tmp_path: Path, text: str, unit: str) -> None:
    (tmp_path / "cgroup").write_text(text)
    assert unit_of_process(tmp_path / "cgroup") == unit


def test_without_control_groups_it_has_no_name(tmp_path: Path) -> None:
    assert unit_of_process(tmp_path / "cgroup") == ""
