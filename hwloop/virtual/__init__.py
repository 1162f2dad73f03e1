"""Virtual time: a clock that jumps to the next event, the loop that runs on it, and the seed that orders ties."""

from hwloop.core import find_compiled

find_compiled(__path__[0], ["clock", "dispatch", "poller", "run_queue"])
