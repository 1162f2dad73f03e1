"""The error of a board that can't be built."""

from __future__ import annotations


class WiringError(ValueError):
    """A board file, or a mapping of the same shape, that can't be built. The message says where, and what is known."""
