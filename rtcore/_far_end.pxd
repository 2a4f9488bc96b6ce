"""The far end, as other compiled rooms may ask for it."""

from rtcore.media._paced cimport PacedSound


cdef class HeardCount:
    cdef public long long appended  # samples: into the playout
    cdef public long long sent  # to the carrier
    cdef public long long heard  # by the caller
    cdef public long long _lag  # between sending and hearing, learnt from acknowledgements
    cdef public long long _lag_left  # of it, what this run has still to wait

    cdef void wrote(self, long long sent) noexcept
    cdef bint moved_on(self, long long samples) noexcept


cdef class FarEnd:
    cdef public HeardCount _ledger
    cdef public PacedSound _playout

    cdef bytes heard_now(self)
