"""gpiod, libgpiod's Python bindings, over simulated chips: the package's own code on another extension module."""
