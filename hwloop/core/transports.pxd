cimport cython


cdef class Flow:
    cdef object _recv, _send, _sock
    cdef public object _transport, protocol, waiting
    cdef Py_ssize_t _size, _least, _small
    cdef bint _is_plain
    cdef public bint buffered, reads, writes

    @cython.locals(size=Py_ssize_t, received=Py_ssize_t)
    cpdef read_ready(self)
    @cython.locals(sent=Py_ssize_t)
    cpdef write(self, data)
    cdef _ebb(self, Py_ssize_t received)
    cdef _send_later(self, rest)
