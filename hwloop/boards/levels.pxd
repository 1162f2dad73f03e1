cdef class LineState:
    cdef public object line, claimed_ns, inferred_ns, last_ns, read_ns, since_ns, suspect_ns
    cdef public bint reported
    cdef public long long inferred, level, owed, seqno


cdef class LevelTracker:
    cdef public bint both, debounced
    cdef public object losses, settling_ns
    cdef public dict states
    cpdef missing_before(self, LineState state, long long level, timestamp_ns)
