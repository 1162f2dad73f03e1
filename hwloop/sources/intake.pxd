cimport cython


cdef class Intake:
    cdef public bint halted, _by_newest
    cdef public list callbacks
    cdef public object events, lost, owed, when_full, _owner, _waiters
    cdef public Py_ssize_t consumers, dropped, received, _direct, _size

    @cython.locals(room=bint, beside=bint, callbacks=list)
    cpdef put(self, event)
    cpdef bint put_all(self, events, is_over=*) except -1
    cdef _overflow(self, event)
