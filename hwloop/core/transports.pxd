cdef class Flow:
    cdef object _recv, _send, _transport
    cdef Py_ssize_t _size, _small
    cdef public bint buffered
