cdef class Urgencies:
    cdef public bint in_use
    cdef public dict _overrides
    cpdef of(self, handle)
