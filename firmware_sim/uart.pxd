from firmware_sim.timeline cimport Event, Referable, Timeline


cdef class Port(Referable):
    cdef dict __dict__
    cdef public object bytes_in, bytes_out, dropped, name, terminal
    cdef public list batchings, buffers, distortions
    cdef object _ends, _latency, _peer, _resting, _wire, _wire_free_ns
    cdef Timeline _timeline
    cdef Event _event
    cdef list _reading_rates
    cdef set _unplugged_by
    cdef bint _closed, _exposed
    cdef Py_ssize_t _room_left
    cpdef Py_ssize_t _hand_over(self, chunk) except -1
    cpdef Py_ssize_t _room(self) except? -1
