"""The paced sound of a line, as other compiled rooms may ask for it."""


cdef class PacedSound:
    cdef public bytearray _buffer
    cdef public long long _base  # position of the buffer's first sample
    cdef public long long sent  # position up to which audio was written
    cdef public long long end  # position up to which audio was appended
    cdef public object _marks  # (position, name), in order
    cdef public bint is_paused
    cdef readonly long long underruns  # times the line ran dry inside a reply
    cdef readonly long long underrun_samples  # for how long in all
    cdef long long _lead, _least  # ahead at most, and written at once
    cdef bint _is_running  # a run began at `_run_started_s`, and has so many samples
    cdef double _run_started_s
    cdef long long _run_samples

    cpdef bytes heard_frame(self, long long heard)
    cdef bint waits(self) except -1
    cpdef list due(self, double now_s)
    cdef double next_s(self) noexcept
    cpdef long long _lead_at(self, double now_s) except? -1
    cdef void _write_until(self, long long position, list out) except *
    cdef bytes _cut(self, long long start, long long stop)
    cdef void _trim(self) except *
