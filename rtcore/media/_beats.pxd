cdef class Pump:
    cdef readonly object on_change
    cdef public int sockets
    cdef int _fd
    cdef object _epoll
    cdef dict _readers
    cdef bytearray _buffer

    cpdef bint read(self) except -1
    cdef bint is_many(self)


cdef class Spread:
    cdef list _members
    cdef dict _beat_of


cdef class Beats:
    cdef readonly double due_s
    cdef readonly double worst_lateness_s
    cdef public double lag_ms
    cdef readonly long ticks, late_ticks
    cdef readonly Pump pump
    cdef Spread _speaking, _watched
    cdef object _time_s
    cdef int _beat, _stride
    cdef bint _is_begun

    cpdef bint beat(self) except -1
    cdef bint _serve(self, double now_s) except -1
    cdef bint _account(self, double lateness_s) except -1
    cdef bint _wait_for(self, double last_s) except -1
