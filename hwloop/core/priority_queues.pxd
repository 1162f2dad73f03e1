cdef class PriorityQueues:
    cdef public Py_ssize_t waiting, old
    cdef public list idle
    cdef list _heaps, _passed, _latest
    cdef object _sequence, _missed, _found
    cdef Py_ssize_t _batch, _owed
    cpdef pick(self, double now, bint ordinary)
    cpdef begin_batch(self)
    cdef _leaves(self, tuple entry)
    cdef _pop(self, list heap, double now)
