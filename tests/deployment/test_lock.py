"""Locks: the exact versions of packages with their hashes, and files that are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from hwloop.deployment.lock import read_lock
from hwloop.deployment.script import ProgramError

HASH = f"--hash=sha256:{64 * 'a'}"


def test_a_lock_has_pinned_packages_with_hashes(tmp_path: Path) -> None:
    path = tmp_path / "requirements.lock"
    path.write_text(
        f"# made by uv\n\nsmbus2==0.5 \\\n    {HASH} \\\n    {HASH}\n    # via door\n"
        f"lgpio==0.2.2.0 ; python_version < '3.13' {HASH}\r\npaho.mqtt[proxy]==2.1 {HASH}\n"
    )
    lock = read_lock(path)
    assert [name for name, _ in lock.entries] == ["smbus2", "lgpio", "paho-mqtt"]
    lock.check_has(["SMBus2>=0.4", "paho_mqtt"])
    with pytest.raises(ProgramError, match="the lock has no aiohttp, which the program needs"):
        lock.check_has(["aiohttp[speedups]>=3"])


def test_a_wheel_at_hand_takes_the_place_of_its_entry(tmp_path: Path) -> None:
    path, wheel = tmp_path / "requirements.lock", tmp_path / "hwloop-1.0-py3-none-any.whl"
    path.write_text(f"hwloop==0.9 {HASH}\nsmbus2==0.5 {HASH}\n")
    wheel.write_bytes(b"")
    first, second = read_lock(path).text([wheel]).splitlines()
    assert first == f"smbus2==0.5 {HASH}"
    assert second.startswith(f"file://{wheel} --hash=sha256:e3b0c442")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "smbus2==0.5\n",
        f"smbus2>=0.5 {HASH}\n",
        f"smbus2 {HASH}\n",
        f"--extra-index-url https://example.org {HASH}\n",
        f"smbus2==0.5 {HASH} --index-url=https://example.org\n",
        f"smbus2 @ https://example.org/x.whl {HASH}\n",
        f"-e /tmp/x {HASH}\n",
        "smbus2==0.5 --hash=md5:0\n",
        "smbus2==0.5 ; --hash=sha256:0\n",
    ],
)
def test_anything_else_is_no_lock(text: str, tmp_path: Path) -> None:
    path = tmp_path / "requirements.lock"
    path.write_text(text)
    with pytest.raises(ProgramError, match=r"is no package with its version|lists no packages"):
        read_lock(path)
