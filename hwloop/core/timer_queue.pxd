cdef class TimerQueue:
    cdef public list new
    cdef public double earliest
    cdef public Py_ssize_t cancelled
    cdef public object _overdue, _tolerant
    cdef list _heap
    cdef object _sequence
    cpdef admit(self)
    cpdef list pop_due(self, double now)
    cpdef next_when(self)
    cpdef note_cancelled(self, timer)
