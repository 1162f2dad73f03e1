"""A finding of the doctor: one fact about the machine, and the command that mends it."""

from __future__ import annotations

from typing import Literal, NamedTuple

Status = Literal["ok", "note", "warning", "problem"]
"""`note`: good to know; `warning`: it works, not as well as it could; `problem`: something can't work like this."""


class Finding(NamedTuple):
    """One fact about the machine."""

    topic: str
    """The part of the machine: "gpio", "i2c", "kernel" …"""
    status: Status
    text: str
    remedy: str = ""
    """A command to run, or a step to take; empty where nothing needs to be done."""
