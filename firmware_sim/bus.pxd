cimport cython
from firmware_sim.timeline cimport Referable, Timeline


cdef class Bus(Referable):
    cdef dict __dict__
    cdef public Timeline timeline
    cdef public object bytes, nack_errno, nacks, number, timeouts, transfers
    cdef public list at_hold, disturbances
    cdef object _adapter_timeout, _bit_rate, _in_use, _lock, _wire
    cdef dict _devices, _hung_by
    cdef set _blocked_by
    cdef Py_ssize_t _queued
    cdef bint _closed
    cpdef _duration_ns(self, messages)
    cpdef _hold(self, busy_until, Py_ssize_t count)
