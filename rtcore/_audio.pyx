"""The audio kernels without state: G.711 and levels.

Types are in _audio.pyi, the specification is _audio_py.py, how buffers are borrowed and samples
read in _audio.pxd. The GIL is kept: the longest of these takes well under a microsecond a frame.
"""

from cpython.buffer cimport (
    PyBUF_SIMPLE,
    PyBUF_WRITABLE,
    PyBuffer_Release,
    PyObject_GetBuffer,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.math cimport log10
from libc.stdlib cimport abs as magnitude_of

# --- G.711 --------------------------------------------------------------------------------


cdef unsigned char compressed_mulaw(int sample) noexcept nogil:
    cdef int magnitude = sample >> 2, sign = 0xFF, segment = 0
    if magnitude < 0:
        magnitude, sign = -magnitude, 0x7F
    magnitude = min(magnitude + 33, 8191)  # the bias makes every segment start at a power of two
    while magnitude >> (segment + 6):
        segment += 1
    return ((segment << 4) | ((magnitude >> (segment + 1)) & 15)) ^ sign


cdef short expanded_mulaw(int octet) noexcept nogil:
    cdef int code = octet ^ 0xFF
    cdef int magnitude = ((((code & 15) << 1) + 33 << (code >> 4 & 7)) - 33) << 2
    return -magnitude if code & 0x80 else magnitude


cdef unsigned char compressed_alaw(int sample) noexcept nogil:
    cdef int magnitude = sample >> 3, sign = 0xD5, segment = 0
    if magnitude < 0:
        magnitude, sign = ~magnitude, 0x55
    while magnitude >> (segment + 5):
        segment += 1
    return ((segment << 4) | ((magnitude >> max(segment, 1)) & 15)) ^ sign


cdef short expanded_alaw(int octet) noexcept nogil:
    cdef int code = octet ^ 0x55
    cdef int segment = code >> 4 & 7
    cdef int magnitude = ((code & 15) << 4) + 8  # the middle of its interval
    if segment:
        magnitude = (magnitude + 256) << (segment - 1)
    return magnitude if code & 0x80 else -magnitude


cdef void fill_tables() noexcept nogil:
    cdef int i
    for i in range(256):
        MULAW_TO_PCM[i] = expanded_mulaw(i)
        ALAW_TO_PCM[i] = expanded_alaw(i)
    for i in range(16384):
        PCM14_TO_MULAW[i] = compressed_mulaw((i - 8192) * 4)
    for i in range(8192):
        PCM13_TO_ALAW[i] = compressed_alaw((i - 4096) * 8)


fill_tables()


cdef void expand(
    const short* table, octets_in payload, Py_ssize_t length, octets_out pcm
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(length):
        store(pcm, i, table[payload[i]])


cdef void compress(
    const unsigned char* table, int bits, octets_in pcm, Py_ssize_t samples, octets_out payload
) noexcept nogil:
    # ``bits`` of a sample matter: the table has 1 << bits entries, the middle one for 0
    cdef Py_ssize_t i
    cdef int drop = 16 - bits, middle = 1 << (bits - 1)
    for i in range(samples):
        payload[i] = table[(load(pcm, i) >> drop) + middle]


cdef bytes expanded(const short* table, object payload):
    cdef Py_buffer view
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        pcm = PyBytes_FromStringAndSize(NULL, view.len * 2)
        expand(table, <octets_in>view.buf, view.len, <octets_out>PyBytes_AS_STRING(pcm))
        return pcm
    finally:
        PyBuffer_Release(&view)


cdef Py_ssize_t expanded_into(const short* table, object payload, object out) except -1:
    cdef Py_buffer source, target
    cdef Py_ssize_t room = borrow_pcm(out, &target, PyBUF_WRITABLE)
    try:
        PyObject_GetBuffer(payload, &source, PyBUF_SIMPLE)
        try:
            if room < source.len:
                raise ValueError(
                    f"out has room for {room} samples, the payload holds {source.len}:"
                    f" give at least {2 * source.len} octets"
                )
            expand(table, <octets_in>source.buf, source.len, <octets_out>target.buf)
            return source.len
        finally:
            PyBuffer_Release(&source)
    finally:
        PyBuffer_Release(&target)


cdef bytes compressed(const unsigned char* table, int bits, object pcm):
    cdef Py_buffer view
    cdef Py_ssize_t samples = borrow_pcm(pcm, &view, PyBUF_SIMPLE)
    try:
        payload = PyBytes_FromStringAndSize(NULL, samples)
        compress(
            table, bits, <octets_in>view.buf, samples, <octets_out>PyBytes_AS_STRING(payload)
        )
        return payload
    finally:
        PyBuffer_Release(&view)


cdef Py_ssize_t compressed_into(
    const unsigned char* table, int bits, object pcm, object out
) except -1:
    cdef Py_buffer source, target
    cdef Py_ssize_t samples = borrow_pcm(pcm, &source, PyBUF_SIMPLE)
    try:
        PyObject_GetBuffer(out, &target, PyBUF_WRITABLE)
        try:
            if target.len < samples:
                raise ValueError(
                    f"out has room for {target.len} octets, pcm holds {samples} samples:"
                    f" give at least {samples} octets"
                )
            compress(table, bits, <octets_in>source.buf, samples, <octets_out>target.buf)
            return samples
        finally:
            PyBuffer_Release(&target)
    finally:
        PyBuffer_Release(&source)


def mulaw_to_pcm(payload) -> bytes:
    """Expand µ-law octets to linear samples.

    Args:
        payload: ``n`` octets, one per sample; any buffer.

    Returns:
        ``n`` int16 little-endian samples, each in [-32124, 32124].

    Source: ITU-T G.711 (1988), tables 2a and 2b, scaled from 14 to 16 bits.
    """
    return expanded(MULAW_TO_PCM, payload)


def mulaw_to_pcm_into(payload, out) -> int:
    """Expand µ-law octets into the caller's buffer; return the number of samples.

    Args:
        payload: ``n`` octets, one per sample; any buffer.
        out: a writable buffer of at least ``2 * n`` octets that is not ``payload``'s; written
            from 0 with int16 little-endian samples.

    Raises:
        ValueError: ``out`` is too small; nothing was written.
        BufferError: ``out`` is read-only.
    """
    return expanded_into(MULAW_TO_PCM, payload, out)


def pcm_to_mulaw(pcm) -> bytes:
    """Compress linear samples to µ-law.

    Args:
        pcm: ``n`` int16 little-endian samples; any buffer. Past ±32635 they are clipped.

    Returns:
        ``n`` octets.

    Raises:
        ValueError: ``pcm`` is no whole number of int16 samples.

    Only the upper 14 bits count. A sample exactly at a decision value takes the larger
    magnitude, as in Sun's g711.c and ``audioop.lin2ulaw``; the ITU's own tool (G.191,
    ``ulaw_compress``) takes the smaller one if negative, which is one code of difference at
    508 of the 65,536 inputs. Source: ITU-T G.711 (1988), tables 2a and 2b.
    """
    return compressed(PCM14_TO_MULAW, 14, pcm)


def pcm_to_mulaw_into(pcm, out) -> int:
    """Compress linear samples to µ-law in the caller's buffer; return their number.

    Args:
        pcm: ``n`` int16 little-endian samples; any buffer.
        out: a writable buffer of at least ``n`` octets that is not ``pcm``'s; written from 0.

    Raises:
        ValueError: ``pcm`` is no whole number of samples, or ``out`` is too small; nothing
            was written.
        BufferError: ``out`` is read-only.
    """
    return compressed_into(PCM14_TO_MULAW, 14, pcm, out)


def alaw_to_pcm(payload) -> bytes:
    """Expand A-law octets to linear samples.

    Args:
        payload: ``n`` octets, one per sample, even bits inverted as on the line; any buffer.

    Returns:
        ``n`` int16 little-endian samples, each in [-32256, 32256]; there is no 0 in A-law.

    Source: ITU-T G.711 (1988), tables 1a and 1b, scaled from 13 to 16 bits.
    """
    return expanded(ALAW_TO_PCM, payload)


def alaw_to_pcm_into(payload, out) -> int:
    """Expand A-law octets into the caller's buffer: as :func:`mulaw_to_pcm_into`."""
    return expanded_into(ALAW_TO_PCM, payload, out)


def pcm_to_alaw(pcm) -> bytes:
    """Compress linear samples to A-law.

    Args:
        pcm: ``n`` int16 little-endian samples; any buffer. Only the upper 13 bits count.

    Returns:
        ``n`` octets, even bits inverted as on the line.

    Raises:
        ValueError: ``pcm`` is no whole number of int16 samples.

    Source: ITU-T G.711 (1988), tables 1a and 1b.
    """
    return compressed(PCM13_TO_ALAW, 13, pcm)


def pcm_to_alaw_into(pcm, out) -> int:
    """Compress linear samples to A-law in the caller's buffer: as :func:`pcm_to_mulaw_into`."""
    return compressed_into(PCM13_TO_ALAW, 13, pcm, out)


# --- levels -------------------------------------------------------------------------------

cdef double FULL_SCALE_POWER = 32768.0 * 32768.0
cdef double FLOOR_DBFS = -127.0


cdef long long sum_squares(octets_in pcm, Py_ssize_t samples) noexcept nogil:
    cdef Py_ssize_t i
    cdef long long total = 0
    cdef int sample
    for i in range(samples):
        sample = load(pcm, i)
        total += <unsigned int>(sample * sample)
    return total


def frame_power(pcm) -> float:
    """Return the mean square of the samples, in [0, 32768²]; 0.0 when there are none.

    Args:
        pcm: int16 little-endian samples; any buffer.

    Raises:
        ValueError: ``pcm`` is no whole number of int16 samples.
    """
    cdef Py_buffer view
    cdef Py_ssize_t samples = borrow_pcm(pcm, &view, PyBUF_SIMPLE)
    try:
        return sum_squares(<octets_in>view.buf, samples) / <double>samples if samples else 0.0
    finally:
        PyBuffer_Release(&view)


def level_dbfs(pcm) -> float:
    """Return the level of the samples in dBFS, in [-127, 0].

    0 dBFS is the power of a full-scale square wave (all samples -32768), so a full-scale sine
    reads -3.01: the dBov of ITU-T G.100.1. Digital silence, and nothing at all, read -127, as
    in RFC 6464 (section 3).

    Args:
        pcm: int16 little-endian samples; any buffer. The mean is not removed.

    Raises:
        ValueError: ``pcm`` is no whole number of int16 samples.
    """
    cdef double power = frame_power(pcm)
    return max(FLOOR_DBFS, 10.0 * log10(power / FULL_SCALE_POWER)) if power else FLOOR_DBFS


def peak(pcm) -> int:
    """Return the largest magnitude among the samples, in [0, 32768]; 0 when there are none.

    Args:
        pcm: int16 little-endian samples; any buffer.

    Raises:
        ValueError: ``pcm`` is no whole number of int16 samples.
    """
    cdef Py_buffer view
    cdef Py_ssize_t i, samples = borrow_pcm(pcm, &view, PyBUF_SIMPLE)
    cdef int largest = 0
    try:
        for i in range(samples):
            largest = max(largest, magnitude_of(load(<octets_in>view.buf, i)))
        return largest
    finally:
        PyBuffer_Release(&view)
