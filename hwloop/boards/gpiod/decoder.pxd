cimport cython
from hwloop.boards.levels cimport LevelTracker, LineState


cdef long long _SEQNO


cdef class EventDecoder(LevelTracker):
    @cython.locals(
        both=bint, states=dict, edges=list, state=LineState, kind=cython.longlong, seqno=cython.longlong, level=cython.longlong,
        lost=cython.longlong, gap=cython.longlong,
    )
    cpdef list decode(self, bytes data, received_ns)
