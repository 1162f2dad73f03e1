cimport cython
from hwloop.core.handles cimport TolerantHandle


cdef class TimerQueue:
    cdef public list new
    cdef public double earliest
    cdef public Py_ssize_t cancelled
    cdef public object _overdue
    cdef list _exact
    cdef dict _heaps
    cdef object _sequence
    @cython.locals(new=list, exact=list, heaps=dict, taken=list, heap=list)
    cpdef admit(self)
    @cython.locals(heaps=dict, heap=list, exact=list, due=list, tolerant=list)
    cpdef list pop_due(self, double now)
    @cython.locals(entries=list, heap=list, tolerance=double, empty=double)
    cdef list _pop_tolerant(self, double now)
    @cython.locals(tolerance=double, heap=list, when=double, wake=double)
    cpdef next_when(self)
    cpdef note_cancelled(self, timer)
