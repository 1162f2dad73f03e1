cdef class Strain:
    cdef public Py_ssize_t overloads, short_circuits
    cdef dict _loaded
    cdef set _logged, _over
    cpdef bint _begins(self, place, bint over) except -1
