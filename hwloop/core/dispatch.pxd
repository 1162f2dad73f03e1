cimport cython
from hwloop.core.bases cimport HandleQueue, LoopBase
from hwloop.core.gc_schedule cimport GcSchedule
from hwloop.core.handles cimport Watcher
from hwloop.core.loop_clock cimport LoopClock
from hwloop.core.monitor cimport Monitor
from hwloop.core.poller cimport Poller
from hwloop.core.priority_queues cimport PriorityQueues
from hwloop.core.run_queue cimport RunQueue
from hwloop.core.timer_queue cimport TimerQueue


cdef Py_ssize_t EVENTS_PER_POLL, FILED_BEFORE_WAIT, FILED_TOGETHER
cdef int IN, OUT
cdef double INFINITY


cdef class Dispatcher:
    cdef dict __dict__
    cdef public double slice, slice_began
    cdef public LoopClock _clock
    cdef public RunQueue _run_queue
    cdef public TimerQueue _timers
    cdef public Poller _poller
    cdef public Monitor _monitor
    cdef public GcSchedule _gc_schedule
    cdef public object _sources, _inheritance

    @cython.locals(
        run_queue=RunQueue, ordinary=HandleQueue, found=HandleQueue, clock=LoopClock, urgent=PriorityQueues, ahead=Py_ssize_t, batch=Py_ssize_t,
        first=Py_ssize_t, left=Py_ssize_t, queued=Py_ssize_t, overdue=Py_ssize_t, lateness=list, latency=list, time=double,
        until=double, over=bint, alone=bint, called=bint, monitor=Monitor,
    )
    cpdef run(self, LoopBase loop)
    @cython.locals(
        run_queue=RunQueue, found=HandleQueue, clock=LoopClock, urgent=PriorityQueues, timers=TimerQueue, time=double,
        monitor=Monitor, gc_schedule=GcSchedule, poller=Poller, ready=list, fd=int, mask=int, reader=Watcher,
        writer=Watcher,
    )
    cpdef double poll(self, LoopBase loop) except? -1
    cdef _run_handle(self, handle, LoopBase loop)
    cdef _failed(self, handle, error)
