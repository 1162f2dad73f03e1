"""Benchmarks of event loops: `hwloop bench`, and the frame of the scripts in benchmarks/.

A package beside hwloop, so that the loop does not carry its own measuring instruments. Each benchmark runs in fresh
processes in which the loops take turns; see `hwloop_bench.processes`.
"""
