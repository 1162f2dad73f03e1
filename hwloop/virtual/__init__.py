"""Virtual time: a clock that jumps to the next event, the loop that runs on it, and the seed that orders ties."""

from hwloop.core import choose_sources

choose_sources(__path__)
