cimport cython
from hwloop.core.bases cimport HandleQueue, LoopBase
from hwloop.core.loop_clock cimport LoopClock
from hwloop.core.priority_queues cimport PriorityQueues
from hwloop.core.run_queue cimport RunQueue
from hwloop.core.timer_queue cimport TimerQueue


cdef class Dispatcher:
    cdef dict __dict__
    cdef public double slice, slice_began
    cdef public LoopClock _clock
    cdef public RunQueue _run_queue
    cdef public TimerQueue _timers
    cdef public object _poller, _sources, _monitor, _inheritance, _gc_schedule

    @cython.locals(
        run_queue=RunQueue, ordinary=HandleQueue, found=HandleQueue, clock=LoopClock, urgent=PriorityQueues, ahead=Py_ssize_t, batch=Py_ssize_t,
        first=Py_ssize_t, queued=Py_ssize_t, overdue=Py_ssize_t, lateness=list, latency=list, time=double,
        until=double, over=bint, alone=bint, called=bint,
    )
    cpdef run(self, LoopBase loop)
    @cython.locals(run_queue=RunQueue, clock=LoopClock, urgent=PriorityQueues, timers=TimerQueue, time=double)
    cpdef double poll(self, LoopBase loop) except? -1
    cdef _run_handle(self, handle, LoopBase loop)
    cdef _failed(self, handle, error)
