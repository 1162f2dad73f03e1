"""Boards: real Linux devices, and the ways to read their lines. Nothing here imports a hardware package on import."""

from hwloop.core import find_compiled

find_compiled(__path__[0], ["levels"])
