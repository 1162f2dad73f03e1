cimport cython
from hwloop.core.handles cimport Watcher


cdef class Monitor:
    cdef public list lateness, latency
    cdef public double slow_after
    cdef public bint is_measuring
    cdef public object deadline_misses, overruns, task_times, sampler
    cdef tuple _histograms
    cdef bint _demotes
    cdef object _deadline_handler, _overrun_handler, _miss_type, _overrun_type

    @cython.locals(watcher=Watcher)
    cpdef note_found(self, handle, double now)
