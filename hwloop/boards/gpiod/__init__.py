"""GPIO lines through gpiod, libgpiod's Python bindings: one kernel request for the lines of each watch or output."""

from hwloop.core import find_compiled

find_compiled(__path__[0], ["decoder"])
