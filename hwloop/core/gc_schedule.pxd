cdef class GcSchedule:
    cdef public bint is_active
    cdef public object _clock, _mode, _expected, _collections, _forced, _longest
    cdef public bint _was_enabled
