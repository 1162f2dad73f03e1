cimport cython
from hwloop.core.handles cimport TolerantHandle


cdef double SHORTEST_BUCKET


cdef class ToleranceQueue:
    cdef public double tolerance
    cdef public list near
    cdef double _length
    cdef dict _buckets
    cdef list _numbers
    cdef object _first
    cpdef add(self, tuple entry)
    cpdef tuple pop(self)
    cpdef list all(self)


cdef class TolerantTimers:
    cdef public Py_ssize_t waiting
    cdef Py_ssize_t _cancelled
    cdef dict _queues
    @cython.locals(queue=ToleranceQueue, timer=TolerantHandle)
    cpdef add(self, tuple entry, tolerance)
    cpdef cancelled(self)
    @cython.locals(queue=ToleranceQueue)
    cpdef wake_by(self, when)
    @cython.locals(queue=ToleranceQueue, entry=tuple, timer=TolerantHandle, due=list, empty=list)
    cpdef list pop_due(self, now)
    cdef _purge(self)
