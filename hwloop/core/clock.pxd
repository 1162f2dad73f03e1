cdef class Alarm:
    cdef dict __dict__
    cdef int _fd
    cdef object _spec, _settime, _arguments


cdef class Clock:
    cdef dict __dict__
    cpdef now_ns(self)
    cpdef wait_until(self, when_ns)
    cpdef foresee(self, nanoseconds)
    cpdef announce(self)
