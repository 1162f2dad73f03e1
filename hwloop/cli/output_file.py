"""Checking the files of options before anything runs: after hours of measuring it is too late for a mistake."""

from __future__ import annotations

import os

from hwloop.cli import Failure, UsageError


def check_output(option: str, path: str, *, replaced: bool = False) -> None:
    """Check that a file can be written, as far as it can be known without creating it.

    `replaced` says that it is written under another name first. Raises `UsageError` for the path of a directory or in
    one that does not exist, and `Failure` where this user may not write.
    """
    directory = os.path.dirname(path) or "."
    if not os.path.isdir(directory):
        raise UsageError(f"{option} {path}: there is no directory {directory}; create it first")
    if os.path.isdir(path):
        raise UsageError(f"{option} {path}: is a directory; give the path of a file")
    if not os.access(path if os.path.exists(path) and not replaced else directory, os.W_OK):
        raise Failure(
            f"{option} {path}: not writable; choose a directory where this user may write, such as /tmp or a "
            "StateDirectory="
        )
