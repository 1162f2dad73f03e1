"""systemctl, journalctl, systemd-sysusers and userdel as they are called, and what is made of their answers.

The commands here are scripts that note how they are called; tests/kernel calls the real ones.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from hwloop.deployment import commands
from hwloop.deployment.accounts import SystemAccounts
from hwloop.deployment.commands import CommandError
from hwloop.deployment.layout import Layout
from hwloop.deployment.systemctl import LiveSystemctl, State, SystemctlError

Script = Callable[[str, str], None]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """`script(name, text)` makes a command that notes its arguments, then runs the text."""
    directory = tmp_path / "commands"
    directory.mkdir()
    monkeypatch.setattr(commands, "PATH", f"{directory}:/usr/bin:/bin")

    def make(name: str, text: str) -> None:
        (directory / name).write_text(f'#!/bin/sh\necho "{name} $*" >> {tmp_path}/calls\n{text}\n')
        (directory / name).chmod(0o755)

    return make


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


def test_services_are_started_and_stopped_by_systemctl(script: Script, tmp_path: Path) -> None:
    script("systemctl", 'test "$1" != restart')
    live = LiveSystemctl()
    live.reload()
    live.enable("hwloop-door.service")
    live.disable("hwloop-door.service")
    assert not live.restart("hwloop-door.service")
    live.restart_running("hwloop-guard@door.service")
    live.stop("hwloop-door.service")
    assert calls(tmp_path) == [
        "systemctl daemon-reload",
        "systemctl --quiet enable -- hwloop-door.service",
        "systemctl --quiet disable -- hwloop-door.service",
        "systemctl reset-failed -- hwloop-door.service",
        "systemctl restart -- hwloop-door.service",
        "systemctl try-restart -- hwloop-guard@door.service",
        "systemctl stop -- hwloop-door.service",
        "systemctl reset-failed -- hwloop-door.service",
    ]


def test_the_state_of_a_unit_is_that_of_systemctl(script: Script) -> None:
    script(
        "systemctl",
        "printf 'ActiveState=active\\nSubState=running\\nResult=success\\nStatusText=door = open\\nNRestarts=2\\n"
        "MainPID=77\\nMemoryCurrent=[not set]\\nExecMainStatus=0\\n'",
    )
    state = LiveSystemctl().state("hwloop-door.service")
    assert state == State("active", "running", "success", "", 0, "door = open", 2, 77, "", 0, "")
    script("systemctl", "echo MemoryCurrent=18446744073709551615")
    assert LiveSystemctl().state("hwloop-door.service").memory == 0


def test_the_log_of_a_unit_is_that_of_journalctl(
    script: Script, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    script("journalctl", "echo one; echo two")
    live = LiveSystemctl()
    assert live.log("hwloop-door.service", 5, since=12.0) == ["one", "two"]
    assert live.show_log("hwloop-door.service", 5, follow=True) == 0
    assert capfd.readouterr().out == "one\ntwo\n"
    live.show_log("hwloop-door.service", 5, follow=False)
    assert calls(tmp_path) == [
        "journalctl --no-pager --quiet --output=cat --lines=5 --since=@12 --unit=hwloop-door.service",
        "journalctl --lines=5 --unit=hwloop-door.service --follow",
        "journalctl --lines=5 --unit=hwloop-door.service --no-pager",
    ]


def test_a_refusal_of_systemd_is_quoted_and_a_missing_one_named(
    script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("systemctl", "echo 'Access denied' >&2; exit 1")
    with pytest.raises(SystemctlError, match="systemctl daemon-reload: Access denied"):
        LiveSystemctl().reload()
    monkeypatch.setattr(commands, "PATH", "/nowhere")
    with pytest.raises(SystemctlError, match="systemctl not found; on Debian: apt install systemd"):
        LiveSystemctl().reload()
    with pytest.raises(SystemctlError, match="journalctl not found"):
        LiveSystemctl().show_log("x", 1, follow=False)
    assert LiveSystemctl().log("x", 1) == []


# Accounts.

SYSUSERS = """
for root; do case $root in --root=*) root=${root#--root=}; break ;; esac; done
while read -r kind name rest; do
    echo "$name:x:990:" >> "$root/etc/group"
    if [ "$kind" = u ]; then echo "$name:x:990:990::/:/usr/sbin/nologin" >> "$root/etc/passwd"; fi
done
"""
DELETE = """
for name; do :; done
sed -i "/^$name:/d" "$2/etc/{file}"
"""


@pytest.fixture
def accounts(script: Script, tmp_path: Path) -> SystemAccounts:
    root = tmp_path / "image"
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/bash\n")
    (root / "etc/group").write_text("root:x:0:\ndialout:x:20:pi\nbroken\n")
    script("systemd-sysusers", SYSUSERS)
    script("userdel", DELETE.replace("{file}", "passwd"))
    script("groupdel", DELETE.replace("{file}", "group"))
    return SystemAccounts(Layout(root))


def test_missing_accounts_are_added_once_and_removed_in_the_end(accounts: SystemAccounts, tmp_path: Path) -> None:
    root = tmp_path / "image"
    before = (root / "etc/passwd").read_text(), (root / "etc/group").read_text()
    assert accounts.add("hwloop", ["gpio", "dialout"]) == ["group gpio", "user hwloop"]
    assert accounts.add("hwloop", ["gpio", "i2c"]) == ["group i2c"]
    assert accounts.add("", ["gpio"]) == []
    assert json.loads((root / "opt/hwloop/services/accounts.json").read_text()) == [
        "group gpio", "user hwloop", "group i2c",
    ]  # fmt: skip
    (root / "etc/group").write_text((root / "etc/group").read_text().replace("i2c:x:990:", "i2c:x:990:pi"))
    assert accounts.remove_added() == ["user hwloop", "group gpio"]  # somebody else has come to use i2c
    assert (root / "etc/passwd").read_text() == before[0]
    assert (root / "etc/group").read_text() == before[1] + "i2c:x:990:pi\n"
    assert accounts.remove_added() == []


def test_an_account_that_is_in_use_stays(accounts: SystemAccounts, script: Script) -> None:
    accounts.add("hwloop", [])
    script("userdel", "exit 8")
    assert accounts.remove_added() == []


def test_accounts_that_can_not_be_added_say_why(
    accounts: SystemAccounts, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script("systemd-sysusers", "echo 'read-only file system' >&2; exit 1")
    with pytest.raises(CommandError, match="systemd-sysusers: read-only file system"):
        accounts.add("hwloop", [])
    monkeypatch.setattr(commands, "PATH", "/nowhere")
    with pytest.raises(CommandError, match="systemd-sysusers not found; on Debian: apt install systemd passwd"):
        accounts.add("hwloop", [])


def test_the_variables_of_the_caller_do_not_choose_the_command(script: Script, tmp_path: Path) -> None:
    script("systemctl", "exit 0")
    trap = tmp_path / "trap"
    trap.mkdir()
    (trap / "systemctl").write_text("#!/bin/sh\nexit 1\n")
    (trap / "systemctl").chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{trap}:{before}"
    try:
        LiveSystemctl().reload()
    finally:
        os.environ["PATH"] = before
