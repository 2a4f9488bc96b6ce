"""What other compiled rooms may cimport: samples in buffers, and the tables of G.711.

Samples are int16 little-endian octets whatever the machine, so buffers of any item type are
borrowed as plain octets (a typed view would refuse ``bytes`` or ``array('h')``) and samples are
loaded and stored through ``memcpy``, which also permits odd addresses.
"""

from cpython.buffer cimport PyBuffer_Release, PyObject_GetBuffer
from libc.string cimport memcpy

# filled when _audio is imported
cdef short[256] MULAW_TO_PCM
cdef short[256] ALAW_TO_PCM
cdef unsigned char[16384] PCM14_TO_MULAW  # index: (sample >> 2) + 8192
cdef unsigned char[8192] PCM13_TO_ALAW  # index: (sample >> 3) + 4096

cdef extern from *:
    """
    #if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    #define RTCORE_LE16(sample) ((short)__builtin_bswap16((unsigned short)(sample)))
    #else
    #define RTCORE_LE16(sample) (sample)
    #endif
    """
    short RTCORE_LE16(short sample) noexcept nogil

ctypedef const unsigned char* octets_in
ctypedef unsigned char* octets_out


cdef inline short load(octets_in pcm, Py_ssize_t index) noexcept nogil:
    cdef short sample
    memcpy(&sample, pcm + 2 * index, 2)
    return RTCORE_LE16(sample)


cdef inline void store(octets_out pcm, Py_ssize_t index, short sample) noexcept nogil:
    sample = RTCORE_LE16(sample)
    memcpy(pcm + 2 * index, &sample, 2)


cdef inline Py_ssize_t borrow_pcm(object pcm, Py_buffer* view, int flags) except -1:
    """Borrow ``pcm`` and return its number of samples; the caller releases ``view``."""
    PyObject_GetBuffer(pcm, view, flags)
    if view.itemsize > 2 or view.len % 2:
        message = (
            f"pcm has items of {view.itemsize} octets: convert it to int16 first"
            if view.itemsize > 2
            else f"pcm is {view.len} octets: int16 samples need an even number;"
            " pass a stream cut at odd places through Reframer first"
        )
        PyBuffer_Release(view)
        raise ValueError(message)
    return view.len // 2
