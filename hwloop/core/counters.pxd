cdef class Histogram:
    cdef public object count, total, min, max, _counts
