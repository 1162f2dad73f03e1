from hwloop.core.bases cimport HandleQueue
from hwloop.core.loop_clock cimport LoopClock
from hwloop.core.priority_queues cimport PriorityQueues
from hwloop.core.urgency cimport Urgencies


cdef class RunQueue:
    cdef public HandleQueue ordinary, found
    cdef public object inbox
    cdef public PriorityQueues urgent
    cdef public bint poll_after_batch
    cdef public Urgencies urgencies
    cdef public LoopClock _clock
    cpdef bint has_work(self)
    cpdef add(self, handle)
    cpdef take_inbox(self)
