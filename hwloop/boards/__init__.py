"""Boards: real Linux devices, and the ways to read their lines. Nothing here imports a hardware package on import."""
