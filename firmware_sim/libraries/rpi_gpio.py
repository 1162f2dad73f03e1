"""RPi.GPIO as rpi-lgpio has it, which runs on the simulated lgpio, wherever it is installed.

Two packages provide the module RPi.GPIO. The older one reaches a Pi's registers in C, and comes first in the search
path of many machines. So the installed rpi-lgpio is found by its own name here.
"""

from __future__ import annotations

import importlib.machinery
import importlib.metadata
import importlib.util

MODULES = ("RPi", "RPi.GPIO")
"""Names that `find_spec` finds."""

_DISTRIBUTION = "rpi-lgpio"


def find_spec(name: str) -> importlib.machinery.ModuleSpec:
    """Return the spec of the module of rpi-lgpio. Raises ModuleNotFoundError if that is not installed."""
    try:
        files = importlib.metadata.distribution(_DISTRIBUTION)
        place = str(files.locate_file("/".join([*name.split("."), "__init__.py"])))
        with open(place, encoding="utf-8") as file:
            is_there = name == MODULES[0] or "import lgpio" in file.read()
    except (importlib.metadata.PackageNotFoundError, OSError):
        is_there = False
    if is_there:
        spec = importlib.util.spec_from_file_location(name, place)
        if spec is not None:
            return spec
    raise ModuleNotFoundError(
        f"{name}: on the simulated board RPi.GPIO is that of rpi-lgpio, which is not installed, or was overwritten by "
        "another package with this module; pip install --force-reinstall rpi-lgpio",
        name=name,
    )
