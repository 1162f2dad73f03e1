cimport cython
from hwloop.core.bases cimport LoopBase
from hwloop.core.dispatch cimport Dispatcher
from hwloop.core.timer_queue cimport TimerQueue
from hwloop.virtual.poller cimport VirtualPoller
from hwloop.virtual.run_queue cimport VirtualRunQueue


cdef class VirtualDispatcher(Dispatcher):
    cdef public object after_step

    @cython.locals(timers=TimerQueue, run_queue=VirtualRunQueue, poller=VirtualPoller, time=double)
    cpdef double poll(self, LoopBase loop) except? -1
