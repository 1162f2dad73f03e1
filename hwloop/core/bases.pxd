cimport cython


cdef class AnyHandle:
    cdef public object _args, _callback, _context, _loop
    cdef public bint _cancelled
    cdef object __weakref__


cdef class AnyTimerHandle(AnyHandle):
    cdef public object _when
    cdef public bint _scheduled


cdef extern from *:
    """
    /* A deque as Modules/_collectionsmodule.c has it since Python 3.11; only its size matters, and is checked. */
    typedef struct {
        PyObject_VAR_HEAD
        void *leftblock, *rightblock;
        Py_ssize_t leftindex, rightindex;
        size_t state;
        Py_ssize_t maxlen, numfreeblocks;
        void *freeblocks[16];
        PyObject *weakreflist;
    } hwloop_Deque;
    """
    ctypedef class collections.deque [object hwloop_Deque, check_size error]:
        pass


@cython.final
cdef class HandleQueue(deque):
    cpdef append(self, handle)
    cpdef popleft(self)


@cython.final
cdef class EpollPoll:
    cdef int _fd
    cpdef list poll(self, int timeout=*, int maxevents=*)


cdef class LoopBase:
    cdef public bint _debug, _stopping
