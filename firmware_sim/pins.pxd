cimport cython
from firmware_sim.strain cimport Strain
from firmware_sim.timeline cimport Referable, Timeline


cdef class Net:
    cdef public list lines
    cdef public object level
    cdef public bint shorted


cdef class Line(Referable):
    cdef dict __dict__
    cdef Chip _chip
    cdef public object active_low, bias, consumer, fast_pulses, flags, level_at_reset, name, number, output, part, used
    cdef public list contacts, holds
    cdef public Py_ssize_t changes, reports, reports_lost
    cdef public Net net
    cdef object _drive, _driven, _pulled
    cdef bint _bias_set
    cdef public list _observers
    cdef dict _loads
    cpdef drive(self, level)
    cpdef double current(self) except? -1
    cpdef set_output(self, level)
    cpdef _keep(self)
    cpdef list drivers(self)
    cpdef tuple pulls(self)
    cpdef notify(self, level, when_ns)


cdef class Chip(Referable):
    cdef dict __dict__
    cdef public Timeline timeline
    cdef public Strain strain
    cdef public object label, surviving
    cdef public list at_removal, at_use
    cdef set _removed_by
    cdef list _wires
    cdef tuple _lines
    cdef object _last_ns, _pending, _planned_ns
    cdef bint _notifying
    cpdef resolve(self, Net net, by)
    @cython.locals(line=Line)
    cpdef _level(self, Net net)
    @cython.locals(line=Line)
    cpdef _notify(self, lines, level, by)
