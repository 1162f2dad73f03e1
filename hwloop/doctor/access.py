"""Rights: whether the user may open the device nodes of a kind, and the group to join otherwise."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hwloop.doctor.finding import Finding
from hwloop.doctor.machine import Machine


def examine_access(machine: Machine, topic: str, nodes: Sequence[str]) -> Iterator[Finding]:
    """Yield a finding for the nodes that the user may use, and one for each way to get at the others."""
    name = machine.user.name
    usable = [node for node in nodes if machine.usable(node)]
    if usable:
        yield Finding(topic, "ok", f"user {name} may use {', '.join(usable)}")
    remedies: dict[tuple[str, str], list[str]] = {}
    for node in nodes:
        if node in usable:
            continue
        group = machine.group_of(node)
        if machine.usable_after_login(node):
            key = (
                f"is in group {group}, but this session began before that",
                "log out and in again, or: newgrp " + group,
            )
        elif group and group != "root":
            key = (f"is not in group {group}", f"sudo usermod -aG {group} {name}, then log in again")
        else:
            key = ("has no group that may", "sudo apt install raspi-gpio, or write a udev rule: docs/installation.md")
        remedies.setdefault(key, []).append(node)
    for (why, remedy), refused in remedies.items():
        yield Finding(topic, "problem", f"user {name} may not use {', '.join(refused)}: {name} {why}", remedy)
