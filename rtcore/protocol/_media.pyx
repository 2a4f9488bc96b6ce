"""The media message in one pass: JSON fields, base64 and G.711 together, both ways.

Of what a call receives, fifty messages a second carry audio, all in one shape. :func:`read_media`
knows that shape and says ``None`` to all else, which the general decoder then reads; what it
does read, the general decoder reads alike. The twin, ``_media_py``, is the specification.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int8_t, int16_t, uint8_t, uint32_t
from libc.string cimport memchr, memcmp, memcpy

from rtcore cimport _audio

from rtcore.protocol.events import Media


cdef enum:
    FRAME_BYTES = 320  # 20 ms
    USUAL_MAX = 1024  # octets of a message with so much
    PIECE_MAX = 16_000  # 1 s: in any encoding far from too long a message


PLAY_TAIL = b'"}}'  # closes what ``_play_head`` opens

cdef int8_t SEXTET[256]  # -1: not of the base64 alphabet
cdef const uint8_t* ALPHABET = (
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
)


cdef void fill_sextets() noexcept:
    cdef int i
    for i in range(256):
        SEXTET[i] = -1
    for i in range(64):
        SEXTET[ALPHABET[i]] = <int8_t>i


fill_sextets()


# --- payload ----------------------------------------------------------------------------

cdef inline void put_sample(uint8_t* out, int16_t sample) noexcept nogil:
    out[0] = sample & 0xFF  # little-endian on any machine
    out[1] = (sample >> 8) & 0xFF


cdef bytes decoded(const uint8_t* text, Py_ssize_t size, str encoding):
    """Base64 to linear samples, or None: not base64, or half a sample over."""
    cdef Py_ssize_t octets, whole, i
    cdef uint32_t bits
    cdef int seen = 0  # the sign bit stays set once a character was foreign
    cdef const uint8_t* last
    cdef uint8_t* out
    cdef const short* table = NULL  # NULL: linear already
    cdef int width = 1
    if encoding == "mulaw":
        table = _audio.MULAW_TO_PCM
    elif encoding == "alaw":
        table = _audio.ALAW_TO_PCM
    else:
        width = 2
    if size & 3:
        return None
    octets = size // 4 * 3
    if size and text[size - 1] == c"=":
        octets -= 2 if text[size - 2] == c"=" else 1
    if octets % width:
        return None
    pcm = PyBytes_FromStringAndSize(NULL, octets // width * 2)
    out = <uint8_t*>PyBytes_AS_STRING(pcm)
    whole = octets // 3
    last = text + whole * 4
    while text != last:
        seen |= SEXTET[text[0]] | SEXTET[text[1]] | SEXTET[text[2]] | SEXTET[text[3]]
        bits = (
            <uint32_t>SEXTET[text[0]] << 18 | <uint32_t>SEXTET[text[1]] << 12
            | <uint32_t>SEXTET[text[2]] << 6 | <uint32_t>SEXTET[text[3]]
        )
        text += 4
        if table is not NULL:
            put_sample(out, table[(bits >> 16) & 0xFF])
            put_sample(out + 2, table[(bits >> 8) & 0xFF])
            put_sample(out + 4, table[bits & 0xFF])
            out += 6
        else:
            out[0], out[1], out[2] = (bits >> 16) & 0xFF, (bits >> 8) & 0xFF, bits & 0xFF
            out += 3
    octets -= whole * 3
    if octets:  # one or two octets in a padded group
        bits = <uint32_t>SEXTET[text[0]] << 18 | <uint32_t>SEXTET[text[1]] << 12
        seen |= SEXTET[text[0]] | SEXTET[text[1]]
        if octets == 2:
            seen |= SEXTET[text[2]]
            bits |= <uint32_t>SEXTET[text[2]] << 6
        for i in range(octets):
            if table is not NULL:
                put_sample(out + 2 * i, table[(bits >> (16 - 8 * i)) & 0xFF])
            else:
                out[i] = (bits >> (16 - 8 * i)) & 0xFF
    return None if seen < 0 else pcm


def decode_payload(bytes payload not None, str encoding not None):
    """Turn standard base64 of ``encoding`` into int16 little-endian.

    None: a foreign character, wrong padding, or an L16 sample cut in half.
    """
    return decoded(<const uint8_t*>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), encoding)


cdef inline uint8_t octet_at(
    const uint8_t* pcm, Py_ssize_t i, const uint8_t* table, int bits
) noexcept nogil:
    """Octet ``i`` of the payload; of a sample the table counts ``bits``, 0 in its middle."""
    if table is NULL:
        return pcm[i]
    return table[(_audio.load(pcm, i) >> (16 - bits)) + (1 << (bits - 1))]


cdef inline uint8_t* put_base64(
    uint8_t* out, const uint8_t* pcm, Py_ssize_t octets, const uint8_t* table, int bits
) noexcept nogil:
    """Write so many octets of the payload; return where they end."""
    cdef Py_ssize_t i = 0
    cdef uint32_t group
    cdef const uint8_t* letters = ALPHABET  # of its own: what is written is not among them
    while i + 3 <= octets:
        group = (
            <uint32_t>octet_at(pcm, i, table, bits) << 16
            | <uint32_t>octet_at(pcm, i + 1, table, bits) << 8
            | octet_at(pcm, i + 2, table, bits)
        )
        out[0], out[1] = letters[group >> 18], letters[(group >> 12) & 63]
        out[2], out[3] = letters[(group >> 6) & 63], letters[group & 63]
        out += 4
        i += 3
    if i < octets:
        group = <uint32_t>octet_at(pcm, i, table, bits) << 16
        if i + 1 < octets:
            group |= <uint32_t>octet_at(pcm, i + 1, table, bits) << 8
        out[0], out[1] = letters[group >> 18], letters[(group >> 12) & 63]
        out[2] = letters[(group >> 6) & 63] if i + 1 < octets else c"="
        out[3] = c"="
        out += 4
    return out


cdef bytes audio_message(bytes pcm, str encoding, bytes head, bytes tail):
    cdef Py_ssize_t octets = PyBytes_GET_SIZE(pcm)
    cdef const uint8_t* source = <const uint8_t*>PyBytes_AS_STRING(pcm)
    cdef bint is_linear = encoding != "mulaw" and encoding != "alaw"
    cdef uint8_t* out
    if octets & 1:
        raise ValueError("half a sample")
    if not is_linear:
        octets //= 2
    message = PyBytes_FromStringAndSize(
        NULL, PyBytes_GET_SIZE(head) + (octets + 2) // 3 * 4 + PyBytes_GET_SIZE(tail)
    )
    out = <uint8_t*>PyBytes_AS_STRING(message)
    memcpy(out, PyBytes_AS_STRING(head), PyBytes_GET_SIZE(head))
    out += PyBytes_GET_SIZE(head)
    if is_linear:
        out = put_base64(out, source, octets, NULL, 16)
    elif encoding == "mulaw":
        out = put_base64(out, source, octets, _audio.PCM14_TO_MULAW, 14)
    else:
        out = put_base64(out, source, octets, _audio.PCM13_TO_ALAW, 13)
    memcpy(out, PyBytes_AS_STRING(tail), PyBytes_GET_SIZE(tail))
    return message


def write_audio(
    bytes pcm not None, str encoding not None, bytes head not None, bytes tail not None
):
    """Return ``head``, ``pcm`` coded as ``encoding`` in padded base64, ``tail``.

    Args:
        pcm: int16 little-endian, any number of samples.

    Raises:
        ValueError: ``pcm`` ends within a sample.
    """
    return audio_message(pcm, encoding, head, tail)


# --- the message ------------------------------------------------------------------------
# Octets are read one by one with no check of the end: the NUL that closes every bytes object
# is no part of any token, so each of these stops at it.

cdef struct Span:
    const uint8_t* start
    Py_ssize_t size


cdef struct Scan:
    const uint8_t* at
    const uint8_t* end
    bint has_event, has_media, has_payload, has_track, has_chunk
    bint is_outbound
    Span payload
    long long chunk


cdef inline void skip_space(Scan* scan) noexcept nogil:
    while scan.at[0] == c" " or 9 <= scan.at[0] <= 10 or scan.at[0] == 13:
        scan.at += 1


cdef inline bint take(Scan* scan, uint8_t token) noexcept nogil:
    """Step over ``token`` and the space before it."""
    skip_space(scan)
    if scan.at[0] != token:
        return False
    scan.at += 1
    return True


cdef inline bint read_plain(Scan* scan, Span* text) noexcept nogil:
    """A string of printable ASCII without escapes."""
    if not take(scan, c'"'):
        return False
    text.start = scan.at
    while scan.at[0] != c'"':
        if scan.at[0] < 0x20 or scan.at[0] >= 0x80 or scan.at[0] == c"\\":
            return False
        scan.at += 1
    text.size = scan.at - text.start
    scan.at += 1
    return True


cdef inline bint is_digit(uint8_t char) noexcept nogil:
    return c"0" <= char <= c"9"


cdef bint read_integer(Scan* scan, long long* number) noexcept nogil:
    """A number of at most 18 digits, without sign, fraction or exponent."""
    cdef const uint8_t* start = scan.at
    number[0] = 0
    while is_digit(scan.at[0]) and scan.at - start < 18:
        number[0] = number[0] * 10 + (scan.at[0] - c"0")
        scan.at += 1
    if scan.at == start or (start[0] == c"0" and scan.at - start > 1):
        return False
    return True  # a further digit, "." or "e" fails where the caller looks for what follows


cdef bint skip_value(Scan* scan) noexcept nogil:
    """A string, in which simple escapes may stand, or an integer."""
    cdef long long number
    skip_space(scan)
    if scan.at[0] != c'"':
        return read_integer(scan, &number)
    scan.at += 1
    while scan.at[0] != c'"':
        if scan.at[0] == c"\\":
            scan.at += 1
            # memchr over the eight without the NUL that ends the literal
            if memchr(b'"\\/bfnrt', scan.at[0], 8) is NULL:
                return False
        elif scan.at[0] < 0x20 or scan.at[0] >= 0x80:
            return False
        scan.at += 1
    scan.at += 1
    return True


cdef bint read_payload(Scan* scan) noexcept nogil:
    """The base64 text as it stands; its decoder refuses what is not of the alphabet."""
    cdef const uint8_t* quote
    if scan.has_payload or not take(scan, c'"'):
        return False
    quote = <const uint8_t*>memchr(scan.at, c'"', scan.end - scan.at)
    if quote is NULL:
        return False
    scan.payload.start, scan.payload.size = scan.at, quote - scan.at
    scan.at = quote + 1
    scan.has_payload = True
    return True


cdef bint read_track(Scan* scan) noexcept nogil:
    cdef Span text
    if scan.has_track or not read_plain(scan, &text):
        return False
    scan.has_track = True
    scan.is_outbound = is_word(&text, b"outbound", 8)
    return scan.is_outbound or is_word(&text, b"inbound", 7)


cdef bint read_chunk(Scan* scan) noexcept nogil:
    if scan.has_chunk:
        return False
    scan.has_chunk = True
    skip_space(scan)
    if scan.at[0] != c'"':
        return read_integer(scan, &scan.chunk)
    scan.at += 1
    if not read_integer(scan, &scan.chunk) or scan.at[0] != c'"':
        return False
    scan.at += 1
    return True


cdef inline bint is_word(const Span* text, const char* word, Py_ssize_t size) noexcept nogil:
    return text.size == size and memcmp(text.start, word, size) == 0


cdef bint read_object(Scan* scan, bint inside_media) noexcept nogil:
    cdef Span key, text
    cdef bint is_read
    if not take(scan, c"{"):
        return False
    while True:
        if not read_plain(scan, &key) or not take(scan, c":"):
            return False
        if inside_media and is_word(&key, b"payload", 7):
            is_read = read_payload(scan)
        elif inside_media and is_word(&key, b"track", 5):
            is_read = read_track(scan)
        elif inside_media and is_word(&key, b"chunk", 5):
            is_read = read_chunk(scan)
        elif not inside_media and is_word(&key, b"event", 5):
            is_read = not scan.has_event and read_plain(scan, &text) and is_word(&text, b"media", 5)
            scan.has_event = True
        elif not inside_media and is_word(&key, b"media", 5):
            is_read = not scan.has_media and read_object(scan, True)
            scan.has_media = True
        else:
            is_read = skip_value(scan)
        if not is_read:
            return False
        if take(scan, c"}"):
            return True
        if not take(scan, c","):
            return False


cdef bint is_media(Scan* scan) noexcept nogil:
    """Read a whole message; False if it is of any but the usual shape."""
    scan.has_event = scan.has_media = scan.has_payload = False
    scan.has_track = scan.has_chunk = scan.is_outbound = False
    scan.chunk = 0
    if not read_object(scan, False):
        return False
    skip_space(scan)
    return scan.at == scan.end and scan.has_event and scan.has_payload


cdef class MediaReader:
    """The base of a carrier's codec: reads what nearly all of its messages are.

    ``encoding`` is that of the stream while it brings audio at 8000 Hz, None at any other time.
    """

    def __init__(self):
        self._plain_encoding = None

    cpdef bytes read_frame(self, bytes message):
        """The next 20 ms of the caller, int16 at 8000 Hz, and in ``chunk`` their number.

        None: the message is something else, or of another shape, and is left to ``receive``.
        """
        cdef Scan scan
        cdef bytes pcm
        if self._plain_encoding is None or message is None:
            return None
        scan.at = <const uint8_t*>PyBytes_AS_STRING(message)
        scan.end = scan.at + PyBytes_GET_SIZE(message)
        if scan.end - scan.at > USUAL_MAX or not is_media(&scan) or scan.is_outbound:
            return None
        pcm = decoded(scan.payload.start, scan.payload.size, self._plain_encoding)
        if pcm is None or PyBytes_GET_SIZE(pcm) != FRAME_BYTES:
            return None
        self._malformed_in_a_row = 0
        self.chunk = scan.chunk if scan.has_chunk else NO_CHUNK
        return pcm


cdef class MediaWriter(MediaReader):
    """And writes what nearly all of its answers are: ``_play_head``, and the audio behind it."""

    def __init__(self):
        super().__init__()
        self._play_head = b""

    cpdef bytes write_piece(self, bytes pcm):
        """The message that has ``pcm`` played, int16 at 8000 Hz.

        None: the stream is not plain, or the piece is nothing usual, and is left to ``send``.
        """
        if self._plain_encoding is None or pcm is None:
            return None
        if PyBytes_GET_SIZE(pcm) & 1 or PyBytes_GET_SIZE(pcm) > PIECE_MAX:
            return None
        return audio_message(pcm, self._plain_encoding, self._play_head, PLAY_TAIL)


def read_media(bytes message not None, str encoding not None):
    """Decode a media message of the usual shape; None leaves it to the general decoder.

    Args:
        message: one whole JSON message.
        encoding: that of the stream; ``pcm`` comes out linear, int16 little-endian.

    Usual is: an object of strings and whole numbers, in any order and spacing, with
    ``"event": "media"`` and an object ``media`` that holds ``payload`` and may hold ``track``
    and ``chunk``. None is the answer to all else, among it ``null``, deeper nesting, repeated
    fields, text beyond ASCII, ``\\u`` escapes, and a payload that is no whole samples in base64.
    """
    cdef Scan scan
    scan.at = <const uint8_t*>PyBytes_AS_STRING(message)
    scan.end = scan.at + PyBytes_GET_SIZE(message)
    if not is_media(&scan):
        return None
    pcm = decoded(scan.payload.start, scan.payload.size, encoding)
    if pcm is None:
        return None
    return Media(
        pcm=pcm,
        track="outbound" if scan.is_outbound else "inbound",
        chunk=scan.chunk if scan.has_chunk else None,
    )
