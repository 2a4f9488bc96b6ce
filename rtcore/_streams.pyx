"""The audio kernels that keep state from one piece to the next: resampler, loss concealment.

Types are in _streams.pyi, the specification is _audio_py.py. All arithmetic on samples is in
integers: the same octets come out on every machine, whatever its compiler vectorises. The GIL is
kept: the longest of these takes a few microseconds for one frame.
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.math cimport M_PI, floor, sin, sqrt
from libc.string cimport memmove, memset

from rtcore._audio cimport borrow_pcm, load, octets_in, octets_out, store


cdef inline int clipped(int sample) noexcept nogil:
    return min(32767, max(-32768, sample))


cdef inline int weighted(int sample, int weight) noexcept nogil:
    # weight: 32768 is 1.0; a sample never exceeds 17 bits here
    return <int>((<long long>sample * weight + 16384) >> 15)


# --- resampling ---------------------------------------------------------------------------

RATES_HZ = (8000, 16000, 22050, 24000, 44100, 48000)

cdef double CUTOFF = 0.95  # of the slower rate's Nyquist frequency: -6 dB there
cdef double KAISER_BETA = 5.0  # what the span can do: 52 dB from 1.05 of that frequency on

cdef enum:
    HALF_SPAN = 16  # in samples of the slower rate: 2 ms at 8 kHz
    UNITY = 1 << 14  # a tap of 1.0; |taps| of one phase sum to < 4, so 32 bits hold any sum
    MAX_TAPS = 192  # 48 to 8 kHz: 2 * 16 * 6
    BLOCK = 960  # samples taken in at a time: 20 ms at 48 kHz

cdef dict FILTERS = {}  # (up, down) -> bytes of int16 taps, made once and shared


cdef double bessel_i0(double x) noexcept nogil:
    cdef double term = 1.0, total = 1.0
    cdef int k = 0
    while term > 1e-17 * total:
        k += 1
        term *= x * x / (4.0 * k * k)
        total += term
    return total


cdef double prototype(double at) noexcept nogil:
    """Return the windowed sinc at ``at`` samples of the slower rate from its middle."""
    cdef double inside = 1.0 - (at / HALF_SPAN) * (at / HALF_SPAN)
    if inside <= 0.0:
        return 0.0
    return (sin(M_PI * CUTOFF * at) / (M_PI * CUTOFF * at) if at else 1.0) * bessel_i0(
        KAISER_BETA * sqrt(inside)
    )


cdef bytes designed(int up, int down, int taps):
    """Return ``up`` phases of ``taps`` int16, each phase in the order of the samples it meets."""
    cdef int ratio = max(up, down)
    cdef int phase, k
    cdef double[MAX_TAPS] exact
    cdef double weight, wanted, left
    out = PyBytes_FromStringAndSize(NULL, up * taps * sizeof(short))
    cdef short* bank = <short*>PyBytes_AS_STRING(out)
    for phase in range(up):
        weight = left = 0.0
        for k in range(taps):
            exact[k] = prototype(<double>(phase + k * up) / ratio - HALF_SPAN)
            weight += exact[k]
        # what rounding leaves is handed on, so that every phase sums to one exactly and passes a
        # constant unchanged: phases that differed would add a tone at their own rhythm
        for k in range(taps):
            wanted = exact[k] / weight * UNITY + left
            bank[taps - 1 - k] = <short>floor(wanted + 0.5)
            left = wanted - bank[taps - 1 - k]
        bank += taps
    return out


cdef inline int dot(const short* a, const short* b, int length) noexcept nogil:
    cdef int i, total = 0
    for i in range(length):
        total += <int>a[i] * b[i]
    return total


cdef int common_divisor(int a, int b) noexcept:
    while b:
        a, b = b, a % b
    return a


@cython.final
cdef class Resampler:
    """Change the rate of a stream of samples, piece by piece.

    A linear-phase polyphase FIR: a sinc of cutoff 0.95 in a Kaiser window (beta 5) that reaches
    16 samples of the slower rate to both sides. With N for the slower rate's Nyquist frequency:
    flat within 0.03 dB up to 0.85 N (3.4 kHz at 8 kHz), -1.2 dB at 0.9 N, -18 dB at N; images
    and aliases 52 dB down from 1.05 N (4.2 kHz) on. What lies between N and 1.05 N folds to
    just below N with 18 to 52 dB of loss: the price of the short delay.

    Delay, the same at every frequency, is 16 samples of the slower rate: **2 ms** between 8 kHz
    and any other rate, 1 ms between 16 and 24 kHz; 0 for equal rates, which are passed through.
    No sample is held back beside it: ``n`` in, ``n * to_hz / from_hz`` out (rounded up over the
    whole stream). However the input is cut, the output is the same, bit for bit.

    Args:
        from_hz: rate of what is pushed, one of ``RATES_HZ``.
        to_hz: rate of what comes out, one of ``RATES_HZ``.

    Raises:
        ValueError: a rate is not one of ``RATES_HZ``.
    """

    cdef readonly int from_hz
    cdef readonly int to_hz
    cdef int up, down, taps
    cdef object bank  # keeps what ``filter`` points into
    cdef const short* filter
    cdef short[MAX_TAPS + BLOCK] window  # the last ``taps`` samples, then the block at work
    # where the next output lies, from the first sample not yet taken in: sample + phase / up
    cdef Py_ssize_t next_sample
    cdef int next_phase

    def __init__(self, int from_hz, int to_hz):
        for name, rate in (("from_hz", from_hz), ("to_hz", to_hz)):
            if rate not in RATES_HZ:
                raise ValueError(
                    f"{name} is {rate}: use one of {', '.join(str(known) for known in RATES_HZ)}"
                )
        cdef int divisor = common_divisor(from_hz, to_hz)
        self.from_hz, self.to_hz = from_hz, to_hz
        self.up, self.down = to_hz // divisor, from_hz // divisor
        # whole vectors of 8 int16: the padding weighs nothing
        self.taps = (2 * HALF_SPAN * max(self.up, self.down) + self.up - 1) // self.up
        self.taps = (self.taps + 7) // 8 * 8
        key = (self.up, self.down)
        if key not in FILTERS:
            FILTERS[key] = designed(self.up, self.down, self.taps)
        self.bank = FILTERS[key]
        self.filter = <const short*>PyBytes_AS_STRING(self.bank)
        self.forget()

    cdef void forget(self) noexcept:
        memset(self.window, 0, sizeof(self.window))
        self.next_sample, self.next_phase = 0, 0

    @property
    def delay_samples(self) -> int:
        """Return the delay in output samples (rounded up), which is what flush returns."""
        if self.up == self.down:
            return 0
        return (HALF_SPAN * max(self.up, self.down) + self.down - 1) // self.down

    cdef Py_ssize_t outputs(self, Py_ssize_t samples) noexcept nogil:
        # k-th output at next + k * down / up: how many lie before ``samples``
        cdef Py_ssize_t span = samples * self.up - self.next_sample * self.up - self.next_phase
        return (span + self.down - 1) // self.down if span > 0 else 0

    cdef octets_out run(self, Py_ssize_t samples, octets_out out) noexcept nogil:
        """Filter ``samples`` new samples in the window; return where the next output goes."""
        cdef Py_ssize_t step = self.down // self.up
        cdef int turn = self.down % self.up
        cdef int total
        while self.next_sample < samples:
            total = dot(
                self.filter + self.next_phase * self.taps,
                self.window + self.next_sample + 1,
                self.taps,
            )
            store(out, 0, clipped((total + UNITY // 2) >> 14))
            out += 2
            self.next_sample += step
            self.next_phase += turn
            if self.next_phase >= self.up:
                self.next_phase -= self.up
                self.next_sample += 1
        self.next_sample -= samples
        memmove(self.window, self.window + samples, self.taps * sizeof(short))
        return out

    def push(self, pcm) -> bytes:
        """Take in samples at ``from_hz``; return those due by now at ``to_hz``.

        Args:
            pcm: any number of int16 little-endian samples; any buffer.

        Returns:
            int16 little-endian samples, possibly none.

        Raises:
            ValueError: ``pcm`` is no whole number of int16 samples; the state is unchanged.
        """
        cdef Py_buffer view
        cdef Py_ssize_t i, size, at = 0, samples = borrow_pcm(pcm, &view, PyBUF_SIMPLE)
        cdef octets_in source = <octets_in>view.buf
        cdef octets_out target
        try:
            if self.up == self.down:
                return PyBytes_FromStringAndSize(<char*>view.buf, view.len)
            out = PyBytes_FromStringAndSize(NULL, 2 * self.outputs(samples))
            target = <octets_out>PyBytes_AS_STRING(out)
            while at < samples:
                size = min(samples - at, BLOCK)
                for i in range(size):
                    self.window[self.taps + i] = load(source, at + i)
                target = self.run(size, target)
                at += size
            return out
        finally:
            PyBuffer_Release(&view)

    def flush(self) -> bytes:
        """End the stream: return the last ``delay_samples`` samples and forget all of it.

        What is pushed next begins a new stream.
        """
        cdef Py_ssize_t due = self.delay_samples
        silence = bytes(2 * (due * self.down // self.up + 2))
        rest = self.push(silence)
        self.forget()
        return rest[: 2 * due]


# --- loss concealment ---------------------------------------------------------------------

cdef enum:  # figures of ITU-T G.711 Appendix I (1999), in samples at 8 kHz
    PITCH_MIN = 40  # 200 Hz; a higher voice is met at a multiple of its period
    PITCH_MAX = 120  # 66 Hz
    MATCH = 160  # the stretch that is compared with itself, a pitch earlier
    HISTORY = PITCH_MAX + MATCH
    FADE_START = 80  # the sound is held for 10 ms, then fades by a fifth every 10 ms,
    FADE_END = 480  # and is silence after 60 ms
    JOIN_MAX = 80  # the cross-fade back takes 10 ms at most,
    JOIN_PER_10_MS = 32  # a quarter of a pitch and 4 ms for every 10 ms lost


@cython.final
cdef class Concealer:
    """Fill gaps in a stream at 8000 Hz with what the voice was doing, then with silence.

    In the spirit of ITU-T G.711 Appendix I, but without its 3.75 ms of delay: a good frame
    comes back at once and, unless a loss came right before it, unchanged. A lost one repeats
    the last pitch period (found by normalised cross-correlation over 40 to 120 samples), whole
    for 10 ms, then fading, silent from 60 ms on. The step from the last good sample is spread
    over a quarter of a pitch, and the first good frame is cross-faded in over at most 10 ms.

    Args:
        frame_bytes: what :meth:`lost` returns: octets, int16 at 8000 Hz; 320 for 20 ms.

    Raises:
        ValueError: ``frame_bytes`` is not even and positive.
    """

    cdef readonly int frame_bytes
    cdef readonly Py_ssize_t lost_samples
    """Samples made up since the last good frame."""
    cdef short[HISTORY] history  # what was heard last, made up or not
    cdef short[PITCH_MAX] period  # what is repeated
    cdef int pitch
    cdef int step  # what the last good sample exceeds the one a pitch before it by

    def __init__(self, int frame_bytes=320):
        if frame_bytes <= 0 or frame_bytes % 2:
            raise ValueError(
                f"frame_bytes is {frame_bytes}: int16 samples need an even, positive number"
            )
        self.frame_bytes = frame_bytes
        self.lost_samples = 0
        self.pitch = PITCH_MAX
        memset(self.history, 0, sizeof(self.history))

    cdef void remember(self, octets_in pcm, Py_ssize_t samples) noexcept nogil:
        cdef Py_ssize_t i, kept = min(samples, HISTORY)
        memmove(self.history, self.history + kept, (HISTORY - kept) * sizeof(short))
        for i in range(kept):
            self.history[HISTORY - kept + i] = load(pcm, samples - kept + i)

    cdef void find_pitch(self) noexcept nogil:
        cdef const short* now = self.history + PITCH_MAX
        cdef const short* then
        cdef int lag, i, product
        cdef long long likeness, energy
        cdef double score, best = 0.0
        self.pitch = PITCH_MAX  # nothing repeats: the longest period buzzes least
        for lag in range(PITCH_MIN, PITCH_MAX + 1):
            then = now - lag
            likeness, energy = 0, 0
            for i in range(MATCH):
                product = now[i] * then[i]
                likeness += product
                product = then[i] * then[i]
                energy += product
            if likeness > 0:
                score = <double>likeness / sqrt(<double>energy)
                if score > best:
                    best, self.pitch = score, lag

    cdef void begin(self) noexcept nogil:
        """Prepare the period to be repeated from what was heard last."""
        self.find_pitch()
        cdef int quarter = self.pitch // 4
        cdef int i, weight
        cdef const short* last = self.history + HISTORY - self.pitch
        for i in range(self.pitch):
            self.period[i] = last[i]
        # its last quarter turns into what came before its first sample, so that it loops
        for i in range(quarter):
            weight = ((i + 1) << 15) // quarter
            self.period[self.pitch - quarter + i] = weighted(
                last[self.pitch - quarter + i], 32768 - weight
            ) + weighted(last[i - quarter], weight)
        self.step = self.history[HISTORY - 1] - self.history[HISTORY - 1 - self.pitch]

    cdef int made_up(self, Py_ssize_t at) noexcept nogil:
        """Return the sample ``at`` samples into the loss."""
        cdef int quarter = self.pitch // 4
        cdef int sample
        if at >= FADE_END:
            return 0
        sample = self.period[at % self.pitch]
        if at < quarter:
            return clipped(sample + weighted(self.step, (<int>(quarter - at) << 15) // quarter))
        if at > FADE_START:
            return weighted(sample, (<int>(FADE_END - at) << 15) // (FADE_END - FADE_START))
        return sample

    def good(self, frame) -> bytes:
        """Take in a frame that arrived; return what is to be heard in its place.

        Args:
            frame: any number of int16 little-endian samples at 8000 Hz; any buffer.

        Returns:
            As many samples; the same ones unless a loss came right before.

        Raises:
            ValueError: ``frame`` is no whole number of int16 samples; the state is unchanged.
        """
        cdef Py_buffer view
        cdef Py_ssize_t i, samples = borrow_pcm(frame, &view, PyBUF_SIMPLE)
        cdef Py_ssize_t join
        cdef octets_out heard
        cdef int weight
        try:
            if type(frame) is bytes and not self.lost_samples:
                out = frame  # the usual case, and no copy of it
            else:
                out = PyBytes_FromStringAndSize(<char*>view.buf, view.len)
        finally:
            PyBuffer_Release(&view)
        heard = <octets_out>PyBytes_AS_STRING(out)
        if self.lost_samples and samples:
            join = self.pitch // 4 + JOIN_PER_10_MS * (min(self.lost_samples, FADE_END) // 80)
            join = min(join, JOIN_MAX, samples)
            for i in range(join):
                weight = (<int>(i + 1) << 15) // <int>(join + 1)
                store(
                    heard,
                    i,
                    weighted(load(heard, i), weight)
                    + weighted(self.made_up(self.lost_samples + i), 32768 - weight),
                )
            self.lost_samples = 0
        self.remember(heard, samples)
        return out

    def lost(self) -> bytes:
        """Return ``frame_bytes`` octets to be heard in place of a frame that did not arrive."""
        cdef Py_ssize_t i, samples = self.frame_bytes // 2
        out = PyBytes_FromStringAndSize(NULL, self.frame_bytes)
        cdef octets_out heard = <octets_out>PyBytes_AS_STRING(out)
        if self.lost_samples == 0:
            self.begin()
        for i in range(samples):
            store(heard, i, self.made_up(self.lost_samples + i))
        self.lost_samples += samples
        self.remember(heard, samples)
        return out
