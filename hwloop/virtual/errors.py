"""The errors of virtual time."""


class DeadlockError(RuntimeError):
    """Raised in virtual time if nothing is ready or planned, and no watched descriptor could ever wake the program."""


class TimeLimitError(DeadlockError):
    """Raised in virtual time if the program has not ended by its time limit. See `hwloop.virtual.time_limit`."""
