"""Errors of metrics that can't be exported."""

from __future__ import annotations


class MetricsError(Exception):
    """Metrics can't be exported to the given target; the message has the reason and the remedy."""


class TargetInUseError(MetricsError):
    """Another program uses the target."""
