"""GPIO lines through gpiod, libgpiod's Python bindings: one kernel request for the lines of each watch or output."""
