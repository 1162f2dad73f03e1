cimport cython
from hwloop.boards.levels cimport LevelTracker, LineState


cdef long long _TIMEOUT_LEVEL


cdef class ReportDecoder(LevelTracker):
    cdef public long long chip
    cdef public object only, full_from_ns, full_to_ns
    cdef public bytes rest

    @cython.locals(
        both=bint, states=dict, edges=list, state=LineState, chip=cython.longlong, level=cython.longlong, lost=cython.longlong,
        whole=Py_ssize_t,
    )
    cpdef list decode(self, bytes data, received_ns)
    cdef bint _is_settled(self, LineState state, timestamp_ns) except -1
    cdef bint _was_full(self, from_ns, to_ns) except -1
