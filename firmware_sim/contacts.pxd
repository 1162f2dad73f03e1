from firmware_sim.timeline cimport Timeline


cdef class Contacts:
    cdef public object closed
    cdef object _random, _touch
    cdef Timeline _timeline
    cdef list _bounces
