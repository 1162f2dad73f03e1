"""GPIO lines through lgpio, real or simulated, without its callback thread: its reports are read from a FIFO."""

from hwloop.core import find_compiled

find_compiled(__path__[0], ["decoder"])
