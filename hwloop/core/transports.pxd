cimport cython


cdef class Flow:
    cdef object _fileno, _recv, _send
    cdef public object _transport
    cdef Py_ssize_t _size, _small
    cdef bint _is_plain
    cdef public bint buffered

    @cython.locals(size=Py_ssize_t)
    cpdef read_ready(self)
