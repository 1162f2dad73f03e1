cimport cython
from hwloop.core.bases cimport HandleQueue, LoopBase
from hwloop.core.handles cimport Handle, TimerHandle
from hwloop.core.loop_clock cimport LoopClock
from hwloop.core.poller cimport Poller
from hwloop.core.run_queue cimport RunQueue
from hwloop.core.timer_queue cimport TimerQueue
from hwloop.core.urgency cimport Urgencies


cdef class LoopCalls(LoopBase):
    cdef public object _inbox
    cdef HandleQueue _ordinary
    cdef public bint _guarded
    cdef public LoopClock _clock
    cdef public Poller _poller
    cdef public RunQueue _run_queue
    cdef public TimerQueue _timers
    cdef public Urgencies _urgencies
