"""The guard as other compiled rooms of ``turn`` may call it, without a Python call between."""

cdef enum:
    FRAME = 160  # samples of 8 kHz
    SPAN = 160  # two frames at 4 kHz: 40 ms, so that an onset is judged at once
    FAR_MAX = 100  # frames of far end that can be remembered: 2 s
    FLOOR_BLOCKS = 10  # blocks: the minimum is over 2 s, longer than speech goes without a gap

cpdef enum:
    AUDIBLE = 1
    FAR = 2
    PERIODIC = 4
    TONE = 8
    LIVELY = 16
    STEADY = 32
    LOUD = 64


cdef class Guard:
    cdef public double noise_margin_db, echo_margin_db, voice_range_db
    cdef public double relief_db  # by which the threshold is lowered while voice is on
    cdef readonly double level_dbfs, far_dbfs, floor_dbfs, threshold_dbfs, return_loss_db
    cdef readonly double voice_dbfs, periodicity
    cdef readonly int lag_samples, steady_frames
    cdef double[FAR_MAX] _far
    cdef double[FLOOR_BLOCKS] _blocks
    cdef double _smooth, _block_min
    cdef int _far_at, _far_window, _block_at, _block_frames, _learned
    cdef short[SPAN] _history

    cpdef int push(self, pcm, far=*) except -1
    cdef void _follow_noise(self, double level, bint far_active) noexcept nogil
    cdef void _learn_loss(self, double loss_db, bint is_open) noexcept nogil
    cdef void _find_pitch(self) noexcept nogil
