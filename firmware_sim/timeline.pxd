cimport cython
from hwloop.core.clock cimport Clock


cdef class Referable:
    cdef object __weakref__


cdef class Event:
    cdef public object action, when_ns


cdef class Timeline(Referable):
    cdef dict __dict__
    cdef public Clock clock
    cdef public object lock, now_ns, tracer
    cdef object _moment_ns, _poll
    cdef list _heap
    cdef dict _readers
    cdef Py_ssize_t _planned
    cdef public bint is_driven
    cdef bint _stopping
    @cython.locals(event=Event)
    cpdef Event at(self, when_ns, action)
    cpdef moment_ns(self)
    @cython.locals(heap=list, first=list, event=Event)
    cpdef next_ns(self)
    cpdef bint run_readable(self) except -1
    @cython.locals(heap=list, first=list, event=Event, happened=bint)
    cpdef bint run_due(self) except -1
    @cython.locals(heap=list, event=Event, moments=Py_ssize_t)
    cpdef play(self, until_ns, jump, concerned)
    cpdef catch_up(self)
