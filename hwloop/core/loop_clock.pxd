cdef class LoopClock:
    cdef public object now, own, time_of_class, _original, _first, _followed
    cdef public bint is_replaced
