"""Scheduling tools on top of the loop: periodic work, rate limits, and locks for tasks of unequal priority."""
