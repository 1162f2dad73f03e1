"""Targets of metrics by their text: a file, a Unix socket, an address. This needs no package that may be missing."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Protocol

from hwloop.service.metric_errors import MetricsError
from hwloop.service.metric_file import MetricFile
from hwloop.service.metric_server import MetricServer, address_of


class Target(Protocol):
    """The way on which the metrics leave the program."""

    shows_process: bool
    """Whether the metrics of the process may be shown."""

    def serve(self, text: Callable[[str], tuple[bytes, str]]) -> None:
        """Write or serve `text(accept)` until `end()`."""

    def end(self) -> None:
        """End `serve()`, from another thread, and leave nothing behind. Harmless when repeated."""

    def forget(self) -> None:
        """Leave all of it to the parent, in a forked child."""


def opener(target: str) -> Callable[[], Target]:
    """Return a function that opens the target which a text names. Both raise `MetricsError`."""
    if target.startswith("unix:"):
        return functools.partial(MetricServer.on_path, target.removeprefix("unix:"))
    if (address := address_of(target)) is not None:
        return functools.partial(MetricServer.on_address, *address)
    if target.endswith(".prom"):
        return functools.partial(MetricFile, target)
    raise MetricsError(
        "metrics go to a file that ends in .prom, to unix:/run/x.sock, or to an address such as 127.0.0.1:9101, not to "
        f"{target!r}"
    )
