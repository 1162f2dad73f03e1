from hwloop.core.clock cimport Clock


cdef class VirtualClock(Clock):
    cdef public object after_turn, driver, is_observed, limit, only, sleepers, waiter, woken
    cdef public list sleeping
    cdef public set members
    cdef public double seconds
    cdef public bint announced, busy, written
    cdef public Py_ssize_t claims
    cdef object _foreseen_ns, _now_ns, _played_ns, _turn_over, _undisturbed
    cdef list _agendas
    cdef dict _claimed
    cdef bint _in_place
    cdef Py_ssize_t _turns
    cpdef now_ns(self)
    cpdef announce(self)
    cpdef next_ns(self)
    cpdef _sleep_until(self, when_ns)
    cpdef bint is_in_place(self) except -1
    cpdef bint _give_turn(self, undisturbed=*) except -1
    cpdef _run_in_place(self, turn)
    cpdef bint _free_until(self, when_ns) except -1
