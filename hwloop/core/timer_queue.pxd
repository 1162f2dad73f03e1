from hwloop.core.handles cimport TolerantHandle
from hwloop.core.tolerant_timers cimport TolerantTimers


cdef class TimerQueue:
    cdef public list new
    cdef public double earliest
    cdef public Py_ssize_t cancelled
    cdef public object _overdue
    cdef public TolerantTimers _tolerant
    cdef list _heap
    cdef object _sequence
    cpdef add_tolerant(self, TolerantHandle timer, tolerance)
    cpdef admit(self)
    cpdef list pop_due(self, double now)
    cpdef next_when(self)
    cpdef note_cancelled(self, timer)
