cdef class GcSchedule:
    cdef public bint is_active
    cdef public object _clock, _mode, _expected, _collections, _forced, _longest
    cdef public bint _was_enabled
    cpdef bint collect_before(self, when) except -1
    cpdef collect_if_pressing(self)


cdef class CountedGcSchedule(GcSchedule):
    cdef Py_ssize_t _next_all, _next_young, _polls
    cdef object _thresholds
