cimport cython
from hwloop.core.bases cimport EpollPoll
from hwloop.core.descriptors cimport DescriptorTable
from hwloop.core.loop_clock cimport LoopClock


cdef class Poller:
    cdef dict __dict__
    cdef public bint is_sleeping
    cdef public double alarm_when, spin
    cdef public int alarm_fd
    cdef public DescriptorTable descriptors
    cdef public EpollPoll _epoll
    cdef public object _alarm, _inbox
    cdef public LoopClock _clock

    @cython.locals(epoll=EpollPoll, early=double, left=double)
    cpdef poll(self, when)
    cpdef bint wake(self) except -1
    cpdef doubt_alarm(self)
