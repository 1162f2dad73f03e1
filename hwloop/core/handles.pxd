from hwloop.core.bases cimport AnyHandle, AnyTimerHandle


cdef class Handle(AnyHandle):
    pass


cdef class TimerHandle(AnyTimerHandle):
    pass


cdef class TolerantHandle(TimerHandle):
    cdef public double tolerance


cdef class Watcher(AnyHandle):
    cdef public object _repr, _source_traceback
    cdef public bint _scheduled, is_ordinary
    cdef public double _when
    cdef public object deadline, fd, priority, source
