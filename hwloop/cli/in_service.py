"""The unit that this process belongs to, for advice in the log of a service."""

from __future__ import annotations

from pathlib import Path


def unit_of_process(cgroups: Path = Path("/proc/self/cgroup")) -> str:
    """Return the name of the unit, from its control group (cgroups(7)); "" where that has none."""
    try:
        lines = cgroups.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        for part in reversed(line.rpartition(":")[2].split("/")):
            if part.endswith(".service"):
                return part
    return ""
