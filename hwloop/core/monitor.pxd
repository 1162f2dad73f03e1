cdef class Monitor:
    cdef dict __dict__
    cdef public list lateness, latency
    cdef public double slow_after
    cdef public bint is_measuring
