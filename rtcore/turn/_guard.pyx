"""What every frame goes through before it may count as the caller's voice.

The far-end guard compares levels, never waveforms: a frame is audible when it stands above
the line's noise, above what we played in the last ``far_window_frames`` less the return loss
the line has shown, and not far under the caller's own voice. Beside it cheap properties of an
audible frame: whether it is periodic (voiced speech is, a click or a cough is not), whether its
pitch moves (LIVELY) or is held (STEADY), whether it is a DTMF tone, and whether it stands so far
above all that may be echo that it is surely somebody (LOUD). The twin is ``_guard_py``.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.math cimport cos, log10, sqrt
from libc.string cimport memcpy, memmove

cdef enum:
    HALF = 80  # the same frame at 4 kHz
    LAG_MIN = 10  # 400 Hz
    LAG_MAX = 57  # 70 Hz
    STEADY_FRAMES = 2  # a voice seldom keeps its pitch within 2 % for longer, a note does
    FLOOR_BLOCK = 10  # frames in a block of the noise minimum: 200 ms

cdef double SILENCE_DBFS = -100.0
cdef double FLOOR_LOWEST_DBFS = -70.0  # a line that sends zeros still has a floor
cdef double FLOOR_HIGHEST_DBFS = -30.0
cdef double FLOOR_FIRST_DBFS = -60.0
cdef double FAR_AUDIBLE_DBFS = -50.0
cdef double LOUD_DB = 6.0  # echo does not stand so far above the loudest of it
cdef double LOSS_FIRST_DB = 10.0  # a loud handset; quieter ones are learnt within a second
cdef double LOSS_LOWEST_DB = 8.0
cdef double LOSS_HIGHEST_DB = 40.0
cdef double PERIODIC_ONSET = 0.5  # half of a window may still lie before the onset
cdef double LIVELY_PERIODICITY = 0.65  # voiced speech: nine frames of ten
cdef double STEADY_SHARE = 0.92  # of the best correlation is still at the lag of the frame before
cdef double PEAK_FALL_DB = 0.02  # a frame: 1 dB a second

# ITU-T Q.23: four low and four high frequencies
cdef double[8] DTMF_HZ = [697.0, 770.0, 852.0, 941.0, 1209.0, 1336.0, 1477.0, 1633.0]
cdef float[8] DTMF_TURN
cdef int _i
for _i in range(8):
    DTMF_TURN[_i] = <float>(2.0 * cos(2.0 * 3.141592653589793 * DTMF_HZ[_i] / 4000.0))


cdef int _read(object buffer, short* out) except -1:
    """Copy one frame out of any buffer of 320 octets."""
    cdef Py_buffer view
    PyObject_GetBuffer(buffer, &view, PyBUF_SIMPLE)
    if view.len != FRAME * 2:
        PyBuffer_Release(&view)
        raise ValueError("a frame is 160 samples of int16 (320 octets)")
    memcpy(out, view.buf, FRAME * 2)
    PyBuffer_Release(&view)
    return 0


cdef double _level_dbfs(const short* pcm) noexcept nogil:
    cdef long long total = 0
    cdef int i
    for i in range(FRAME):
        total += <int>pcm[i] * <int>pcm[i]
    if total == 0:
        return SILENCE_DBFS
    return 10.0 * log10(<double>total / FRAME / (32768.0 * 32768.0))


cdef bint _is_dtmf(const short* x) noexcept nogil:
    """Whether two DTMF frequencies hold nearly all of the energy of 80 samples at 4 kHz."""
    cdef float[8] s1
    cdef float[8] s2
    cdef float s0, sample
    cdef double total = 0.0, low = 0.0, high = 0.0, power
    cdef int i, k
    for k in range(8):
        s1[k] = 0.0
        s2[k] = 0.0
    for i in range(HALF):
        sample = <float>x[i]
        total += <double>sample * sample
        for k in range(8):
            s0 = sample + DTMF_TURN[k] * s1[k] - s2[k]
            s2[k] = s1[k]
            s1[k] = s0
    for k in range(8):
        power = <double>s1[k] * s1[k] + <double>s2[k] * s2[k]
        power -= <double>DTMF_TURN[k] * s1[k] * s2[k]
        if k < 4:
            low = max(low, power)
        else:
            high = max(high, power)
    # a sine of amplitude a over n samples: power a^2 n^2 / 4, energy a^2 n / 2
    total *= HALF / 2.0
    return low > 0.1 * total and high > 0.1 * total and low + high > 0.75 * total


cdef class Guard:
    """One call's guard: push each frame once, in order.

    Args:
        noise_margin_db: how far above the noise floor a frame must stand.
        echo_margin_db: how far above the expected echo.
        voice_range_db: how far under the caller's own loudest voice a frame may lie.
        far_window_frames: how long what we played may still come back, in frames (1..100).

    ``relief_db`` lowers the threshold for what has begun as voice. 0.1 to 0.2 us a quiet frame,
    0.8 an audible one.
    """

    def __init__(
        self,
        *,
        double noise_margin_db=11.0,
        double echo_margin_db=4.5,
        double voice_range_db=30.0,
        int far_window_frames=30,
    ):
        cdef int i
        self.noise_margin_db = noise_margin_db
        self.echo_margin_db = echo_margin_db
        self.voice_range_db = voice_range_db
        self.far_window_frames = far_window_frames
        self.relief_db = 0.0
        self.level_dbfs = self.far_dbfs = self.threshold_dbfs = SILENCE_DBFS
        self.voice_dbfs = SILENCE_DBFS
        self.floor_dbfs = FLOOR_FIRST_DBFS
        self.return_loss_db = LOSS_FIRST_DB
        self.periodicity = 0.0
        self.lag_samples = self.steady_frames = 0
        for i in range(FAR_MAX):
            self._far[i] = SILENCE_DBFS
        for i in range(FLOOR_BLOCKS):
            self._blocks[i] = FLOOR_FIRST_DBFS
        for i in range(SPAN):
            self._history[i] = 0
        self._smooth = self._block_min = FLOOR_FIRST_DBFS
        self._far_at = self._block_at = self._block_frames = self._learned = 0

    @property
    def far_window_frames(self):
        return self._far_window

    @far_window_frames.setter
    def far_window_frames(self, int frames):
        if not 1 <= frames <= FAR_MAX:
            raise ValueError(f"far_window_frames is 1..{FAR_MAX}")
        self._far_window = frames

    cpdef int push(self, pcm, far=None) except -1:
        """Judge one frame; return AUDIBLE, FAR, PERIODIC, TONE, LIVELY, STEADY and LOUD, or-ed.

        Raises:
            ValueError: ``pcm`` or ``far`` is not 320 octets.
        """
        cdef short[FRAME] near
        cdef short[FRAME] played
        cdef double level, threshold, echo, far_peak = SILENCE_DBFS
        cdef int i, at, active = 0, flags = 0
        _read(pcm, near)
        level = self.level_dbfs = _level_dbfs(near)
        if far is None:
            self.far_dbfs = SILENCE_DBFS
        else:
            _read(far, played)
            self.far_dbfs = _level_dbfs(played)
        self._far[self._far_at] = self.far_dbfs
        at = self._far_at
        for _ in range(self._far_window):
            if self._far[at] > FAR_AUDIBLE_DBFS:
                active += 1
                far_peak = max(far_peak, self._far[at])
            at = FAR_MAX - 1 if at == 0 else at - 1
        self._far_at = 0 if self._far_at == FAR_MAX - 1 else self._far_at + 1
        if self.far_dbfs > FAR_AUDIBLE_DBFS:
            flags = FAR
        self._follow_noise(level, active > 0)

        threshold = self.floor_dbfs + self.noise_margin_db
        threshold = max(threshold, self.voice_dbfs - self.voice_range_db)
        if active:
            echo = far_peak - self.return_loss_db + self.echo_margin_db
            if echo > threshold:
                threshold = echo
                if level > echo + LOUD_DB:
                    flags |= LOUD
            if 2 * active >= self._far_window:
                self._learn_loss(far_peak - level, level > threshold)
        threshold -= self.relief_db
        self.threshold_dbfs = threshold

        memmove(self._history, &self._history[HALF], (SPAN - HALF) * sizeof(short))
        for i in range(HALF):
            self._history[SPAN - HALF + i] = <short>((<int>near[2 * i] + <int>near[2 * i + 1]) >> 1)
        if level > threshold:
            flags |= AUDIBLE
            if _is_dtmf(&self._history[SPAN - HALF]):
                flags |= TONE
            else:
                self._find_pitch()
                if self.periodicity > LIVELY_PERIODICITY:
                    flags |= LIVELY if self.steady_frames < STEADY_FRAMES else STEADY
                if self.periodicity > PERIODIC_ONSET:
                    flags |= PERIODIC
                    if active == 0 and level > self.voice_dbfs:
                        self.voice_dbfs = level
        if self.voice_dbfs > SILENCE_DBFS:
            self.voice_dbfs -= PEAK_FALL_DB
        return flags

    cdef void _follow_noise(self, double level, bint far_active) noexcept nogil:
        """The floor is the least smoothed level of 2 s; while we speak it can only fall."""
        cdef int i
        cdef double least
        self._smooth += 0.4 * (level - self._smooth)
        self._block_min = min(self._block_min, self._smooth)
        if self._block_min < self._blocks[self._block_at]:
            self._blocks[self._block_at] = self._block_min
        if not far_active:
            self._block_frames += 1
            if self._block_frames == FLOOR_BLOCK:
                self._block_frames = 0
                self._block_at = 0 if self._block_at == FLOOR_BLOCKS - 1 else self._block_at + 1
                self._blocks[self._block_at] = self._block_min = self._smooth
        least = self._blocks[0]
        for i in range(1, FLOOR_BLOCKS):
            least = min(least, self._blocks[i])
        self.floor_dbfs = min(max(least, FLOOR_LOWEST_DBFS), FLOOR_HIGHEST_DBFS)

    cdef void _learn_loss(self, double loss_db, bint is_open) noexcept nogil:
        """Follow the low quantile of (loudest played - heard): what the line surely takes away.

        A frame that opened the guard is more likely the caller than the echo: it counts little.
        """
        cdef double step
        if loss_db < self.return_loss_db:
            step = -0.05 if is_open else -0.3
        else:
            self._learned += 1
            step = max(2.0 / self._learned, 0.015)
        self.return_loss_db = min(max(self.return_loss_db + step, LOSS_LOWEST_DB), LOSS_HIGHEST_DB)

    cdef void _find_pitch(self) noexcept nogil:
        """Highest normalised autocorrelation of the last 40 ms at 4 kHz, lags of 70..400 Hz."""
        cdef short[SPAN] x
        cdef int i, lag, loudest = 0, shift = 0, product, first, last
        cdef double best = 0.0, kept = 0.0, r
        cdef int best_lag = 0
        for i in range(SPAN):
            loudest = max(loudest, self._history[i] if self._history[i] >= 0 else -self._history[i])
        while (loudest >> shift) > 4000:  # 103 products of 4000^2 fit 31 bits
            shift += 1
        for i in range(SPAN):
            x[i] = <short>(self._history[i] >> shift)
        first = 0
        for i in range(LAG_MAX, SPAN):
            first += <int>x[i] * <int>x[i]
        last = 0
        for i in range(LAG_MAX - LAG_MIN, SPAN - LAG_MIN):
            last += <int>x[i] * <int>x[i]
        for lag in range(LAG_MIN, LAG_MAX + 1):
            product = 0
            for i in range(SPAN - LAG_MAX):
                product += <int>x[LAG_MAX + i] * <int>x[LAG_MAX + i - lag]
            if product > 0 and last > 0 and first > 0:
                r = product / sqrt(<double>first * <double>last)
                if lag == self.lag_samples:
                    kept = r
                if r > best:
                    best = r
                    best_lag = lag
            if lag < LAG_MAX:  # slide the earlier segment back by one
                last += <int>x[LAG_MAX - lag - 1] * <int>x[LAG_MAX - lag - 1]
                last -= <int>x[SPAN - lag - 1] * <int>x[SPAN - lag - 1]
        if best > LIVELY_PERIODICITY and kept > STEADY_SHARE * best:
            self.steady_frames += 1
        else:
            self.steady_frames = 0
        self.periodicity = best
        self.lag_samples = best_lag
