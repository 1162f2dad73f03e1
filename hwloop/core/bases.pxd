cdef class AnyHandle:
    cdef public object _args, _callback, _context, _loop
    cdef public bint _cancelled
    cdef object __weakref__


cdef class AnyTimerHandle(AnyHandle):
    cdef public object _when
    cdef public bint _scheduled


cdef class LoopBase:
    cdef public bint _debug, _stopping
