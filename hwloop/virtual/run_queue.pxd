from hwloop.core.run_queue cimport RunQueue


cdef class VirtualRunQueue(RunQueue):
    cdef public object step_order
    cpdef arrange(self)
    cpdef take_inbox(self)
