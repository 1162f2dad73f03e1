"""The libraries that programs import, led to simulated lines, buses and ports below their own code."""
