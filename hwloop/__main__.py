"""`python -m hwloop` is the `hwloop` command, for where the command itself is not on the path."""

from __future__ import annotations

from hwloop.cli import script

script()
