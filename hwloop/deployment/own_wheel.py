"""The hwloop that runs, as a wheel: an environment gets the very version that installs it, without asking any index.

The files are those of the running packages, whether they were installed or are imported from a checkout. The same
files make the same bytes, so a digest tells whether hwloop has changed.

The wheel fits every Python, also with a compiled core: the names of compiled modules contain the Python and the
platform that they are for, and any other Python runs the sources beside them.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

from hwloop.deployment.script import files_below

_PACKAGES = ("hwloop", "firmware_sim", "hwloop_bench")
_EARLIEST = (1980, 1, 1, 0, 0, 0)
"""The earliest time that an archive can hold: files of the same contents have the same bytes."""


class OwnWheelError(Exception):
    """The running hwloop can't be packed; the message says why, and what to do."""


@dataclass(frozen=True)
class Wheel:
    """A wheel in memory.

    Attributes:
        file_name: the name of its file, which has a meaning for installers.
        version: the version of hwloop.
        data: its contents.
    """

    file_name: str
    version: str
    data: bytes

    @property
    def digest(self) -> str:
        """A digest of its contents."""
        return hashlib.sha256(self.data).hexdigest()


def pack_own_wheel() -> Wheel:
    """Return the running hwloop as a wheel. Raises `OwnWheelError`."""
    try:
        distribution = importlib.metadata.distribution("hwloop")
    except importlib.metadata.PackageNotFoundError:
        raise OwnWheelError(
            "this hwloop is not installed, so its requirements are unknown; install it: pip install ./hwloop"
        ) from None
    metadata = distribution.read_text("METADATA") or distribution.read_text("PKG-INFO") or ""
    version = distribution.version
    about = f"hwloop-{version}.dist-info"
    files = {name: path.read_bytes() for name, path in _modules()}
    files[f"{about}/METADATA"] = metadata.encode()
    files[f"{about}/WHEEL"] = (
        f"Wheel-Version: 1.0\nGenerator: hwloop {version}\nRoot-Is-Purelib: true\nTag: py3-none-any\n".encode()
    )
    files[f"{about}/entry_points.txt"] = (distribution.read_text("entry_points.txt") or "").encode()
    record = f"{about}/RECORD"
    files[record] = "".join(f'"{name}",,\n' for name in [*files, record]).encode()
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in files.items():
            entry = zipfile.ZipInfo(name, _EARLIEST)
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return Wheel(f"hwloop-{version}-py3-none-any.whl", version, target.getvalue())


def _modules() -> list[tuple[str, Path]]:
    found = dict[str, Path]()
    for package in _PACKAGES:
        spec = importlib.util.find_spec(package)
        for location in (spec.submodule_search_locations if spec is not None else None) or ():
            for name, path in files_below(Path(location), Path(location)):
                found.setdefault(f"{package}/{name}", path)
    return sorted(found.items())
