cimport cython
from hwloop.core.poller cimport Poller
from hwloop.core.priority_queues cimport PriorityQueues
from hwloop.core.timer_queue cimport TimerQueue
from hwloop.virtual.clock cimport VirtualClock
from hwloop.virtual.run_queue cimport VirtualRunQueue


cdef class VirtualPoller(Poller):
    cdef public Py_ssize_t holds
    cdef public object _ready_now
    cdef object _limit, _lookout, _loop, _own_pipe, _random, _signal_handlers, _threads
    cdef VirtualClock _virtual_clock
    cdef VirtualRunQueue _run_queue
    cdef TimerQueue _timers
    cdef double _resting_until
    cdef bint _announced
    cdef Py_ssize_t _idled, _polls, _seen, _threads_running, _unasked
    cpdef bint may_skip(self)
    @cython.locals(run_queue=VirtualRunQueue, timer=double)
    cpdef poll(self, when)
    cpdef list _pass_busily(self)
    @cython.locals(
        clock=VirtualClock, run_queue=VirtualRunQueue, urgent=PriorityQueues, new_timers=list, waiting=bint,
        written=bint, running=Py_ssize_t,
    )
    cpdef _rest_with_board(self, double timer)
    @cython.locals(clock=VirtualClock, run_queue=VirtualRunQueue)
    cpdef bint _is_concerned(self) except -1
    @cython.locals(clock=VirtualClock)
    cpdef bint _rests_until_after(self, when_ns) except -1
