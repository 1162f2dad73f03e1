"""The base classes of bases.py as extension types: see there.

Everything but the attributes is asyncio's own code, called with these objects. `isinstance` asks an object for its
`__class__` where its type says no, and so does `super` in asyncio's methods.
"""

import asyncio

cimport cython

_Handle = asyncio.Handle
_TimerHandle = asyncio.TimerHandle


@cython.freelist(256)
cdef class AnyHandle:
    """`asyncio.Handle` as an extension type."""

    @property
    def __class__(self):
        return _Handle

    def __init__(self, callback, args, loop, context=None):
        _Handle.__init__(self, callback, args, loop, context)

    def __repr__(self):
        return _Handle.__repr__(self)

    def _repr_info(self):
        info = _Handle._repr_info(self)
        info[0] = type(self).__name__
        return info

    def get_context(self):
        return self._context

    def cancel(self):
        _Handle.cancel(self)

    def cancelled(self):
        return self._cancelled

    def _run(self):
        _Handle._run(self)


cdef class AnyTimerHandle(AnyHandle):
    """`asyncio.TimerHandle` as an extension type."""

    @property
    def __class__(self):
        return _TimerHandle

    def _repr_info(self):
        info = _TimerHandle._repr_info(self)
        info[0] = type(self).__name__
        return info

    def __hash__(self):
        return hash(self._when)

    def __lt__(self, other):
        return _TimerHandle.__lt__(self, other)

    def __le__(self, other):
        return _TimerHandle.__le__(self, other)

    def __gt__(self, other):
        return _TimerHandle.__gt__(self, other)

    def __ge__(self, other):
        return _TimerHandle.__ge__(self, other)

    def __eq__(self, other):
        return _TimerHandle.__eq__(self, other)

    def when(self):
        return self._when


cdef class LoopBase:
    """The attributes of asyncio's loop that the dispatch function reads."""
