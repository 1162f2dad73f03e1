cdef class DescriptorTable:
    cdef object _selector, _suspects
    cdef public object keys, epoll, alarm, waker, urgent
    cdef public int waker_fd
