"""The errors of a board that can't be built, and of a fault that it can't have."""

from __future__ import annotations


class WiringError(ValueError):
    """A board file, or a mapping of the same shape, that can't be built. The message says where, and what is known."""


class FaultError(ValueError):
    """A fault that can't be injected. The message says why, and what is known."""
