cdef class GcSchedule:
    cdef dict __dict__
    cdef public bint is_active
