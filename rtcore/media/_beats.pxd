"""Who reads and writes when, as other compiled rooms may ask for it."""


cdef class Readable:
    cpdef read(self)


cdef class Pump:
    cdef public object on_change
    cdef int _all_fd, _at_once_fd
    cdef object _all, _at_once
    cdef dict _readers
    cdef set _urgent
    cdef bytearray _buffer

    cpdef bint read(self) except -1
    cpdef bint read_at_once(self) except -1
    cpdef hurry(self, int fd, bint is_urgent)
    cdef int portion(self) except -1
    cdef bint _read(self, int epoll) except -1


cdef class Beats:
    cdef readonly double due_s
    cdef readonly double worst_lateness_s
    cdef public double lag_ms
    cdef readonly long ticks, late_ticks
    cdef readonly Pump pump
    cdef dict _speaking, _watched
    cdef object _time_s
    cdef bint _is_begun
    cdef int _unread  # sockets this beat has still to look at

    cpdef bint beat(self) except -1
    cdef bint _serve(self, double now_s) except -1
    cdef bint _account(self, double lateness_s) except -1
    cdef bint _wait_for(self, double last_s) except -1
