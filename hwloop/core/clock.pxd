cdef class Alarm:
    cdef dict __dict__
    cdef int _fd
