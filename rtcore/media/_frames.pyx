"""WebSocket frames (RFC 6455, section 5): octets in, whole messages out, and back.

No socket, no clock. The plain reference it is checked against is wsproto's frame protocol
(differential fuzzing in the tests), so it has no twin of its own.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Realloc
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

from os import urandom

from rtcore.errors import LocalProtocolError

TEXT = OP_TEXT
BINARY = OP_BINARY
PING = OP_PING
PONG = OP_PONG

# close codes: RFC 6455, section 7.4.1
cdef enum:
    PROTOCOL_ERROR = 1002
    NO_STATUS = 1005  # never on the wire
    INVALID_DATA = 1007
    TOO_BIG = 1009

cdef enum:
    REASON_MAX = 123  # a control frame less its code
    MASK_POOL = 4096  # octets of randomness per system call: masks for 1024 frames


cpdef bint is_wire_code(int code) noexcept nogil:
    """Whether ``code`` may stand in a close frame: section 7.4 and its IANA registry."""
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


cdef void xor(
    uint8_t* out, const uint8_t* data, Py_ssize_t size, const uint8_t* mask, Py_ssize_t offset
) noexcept nogil:
    """Copy ``data`` masked; ``offset`` is its place in the payload (section 5.3)."""
    cdef uint8_t turned[8]
    cdef uint64_t key
    cdef uint64_t word
    cdef Py_ssize_t i
    for i in range(8):
        turned[i] = mask[(offset + i) & 3]
    memcpy(&key, turned, 8)
    i = 0
    while i + 8 <= size:
        memcpy(&word, data + i, 8)
        word ^= key
        memcpy(out + i, &word, 8)
        i += 8
    while i < size:
        out[i] = data[i] ^ turned[i & 7]
        i += 1


cdef bint is_utf8(Utf8* state, const uint8_t* data, Py_ssize_t size) noexcept nogil:
    """Whether a text may go on with ``data``: Unicode standard, table 3-7."""
    cdef uint64_t word
    cdef uint8_t octet
    cdef Py_ssize_t i = 0
    while i < size:
        if state.missing == 0:
            while i + 8 <= size:  # most text here is JSON, so ASCII: eight at a time
                memcpy(&word, data + i, 8)
                if word & <uint64_t>0x8080808080808080:
                    break
                i += 8
            if i == size:
                return True
        octet = data[i]
        i += 1
        if state.missing:
            if not state.low <= octet <= state.high:
                return False
            state.missing -= 1
            state.low, state.high = 0x80, 0xBF
        elif octet >= 0x80:
            state.low, state.high = 0x80, 0xBF
            if 0xC2 <= octet <= 0xDF:
                state.missing = 1
            elif 0xE0 <= octet <= 0xEF:
                state.missing = 2
                if octet == 0xE0:
                    state.low = 0xA0  # shorter forms exist
                elif octet == 0xED:
                    state.high = 0x9F  # surrogates
            elif 0xF0 <= octet <= 0xF4:
                state.missing = 3
                if octet == 0xF0:
                    state.low = 0x90
                elif octet == 0xF4:
                    state.high = 0x8F  # past U+10FFFF
            else:
                return False
    return True


cdef class FrameCodec:
    """One end of a WebSocket after its opening handshake; see the stub for the contract."""

    def __cinit__(self, *, bint is_client, Py_ssize_t max_message_bytes):
        self.is_client = is_client
        self.max_message_bytes = max_message_bytes
        self.close_reason = ""
        self.replies = []
        self.masks = b""

    def __dealloc__(self):
        PyMem_Free(self.message)

    # --- receiving ------------------------------------------------------------------------

    def feed(self, data, Py_ssize_t size=-1):
        cdef Py_buffer view
        cdef list messages = []
        PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
        try:
            if size < 0 or size > view.len:
                size = view.len
            self.parse(<const uint8_t*>view.buf, size, messages)
        finally:
            PyBuffer_Release(&view)
        return messages

    @property
    def is_stirred(self):
        return self.close_code != 0 or bool(self.replies)

    def take_replies(self):
        cdef list replies = self.replies
        if replies:
            self.replies = []
        return replies

    cdef int parse(self, const uint8_t* data, Py_ssize_t size, list messages) except -1:
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t taken
        while self.close_code == 0:
            if not self.in_payload:
                at += self.read_head(data + at, size - at)
                if not self.in_payload:
                    return 0
            taken = min(size - at, self.payload_size - self.payload_read)
            if self.opcode >= OP_CLOSE:
                xor(self.control + self.payload_read, data + at, taken, self.mask,
                    self.payload_read)
                self.payload_read += taken
                if self.payload_read < self.payload_size:
                    return 0
                self.in_payload = False
                self.end_control()
            elif self.is_final and self.message_size == 0 and taken == self.payload_size:
                self.in_payload = False
                self.take_whole(data + at, messages)
            else:
                self.take_part(data + at, taken, messages)
                if self.in_payload:
                    return 0
            at += taken

    cdef Py_ssize_t read_head(self, const uint8_t* data, Py_ssize_t size) except -1:
        """Gather a frame's head and judge it; return the octets used of ``data``."""
        cdef Py_ssize_t used = 0
        cdef int wanted = 2
        while True:
            while self.head_size < wanted:
                if used == size:
                    return used
                self.head[self.head_size] = data[used]
                self.head_size += 1
                used += 1
            if wanted > 2:
                break
            if not self.judge_first_octets():
                return used
            wanted = self.whole_head_size()
            if wanted == 2:
                break
        self.begin_frame()
        return used

    cdef int whole_head_size(self) noexcept:
        cdef int length = self.head[1] & 0x7F
        cdef int size = 2 if self.is_client else 6
        return size + (8 if length == 127 else 2 if length == 126 else 0)

    cdef bint judge_first_octets(self) except -1:
        cdef int opcode = self.head[0] & 0x0F
        cdef bint is_final = self.head[0] & 0x80 != 0
        cdef bint is_masked = self.head[1] & 0x80 != 0
        if self.head[0] & 0x70:
            return self.fail(PROTOCOL_ERROR, "reserved bits set")
        if opcode > OP_PONG or OP_BINARY < opcode < OP_CLOSE:
            return self.fail(PROTOCOL_ERROR, f"unknown opcode {opcode}")
        if is_masked == self.is_client:
            return self.fail(PROTOCOL_ERROR, "masked" if is_masked else "not masked")
        if opcode >= OP_CLOSE:
            if not is_final:
                return self.fail(PROTOCOL_ERROR, "fragmented control frame")
            if self.head[1] & 0x7F > CONTROL_MAX:
                return self.fail(PROTOCOL_ERROR, "control frame too long")
        elif opcode == OP_CONTINUATION:
            if self.message_opcode == 0:
                return self.fail(PROTOCOL_ERROR, "nothing to continue")
        elif self.message_opcode != 0:
            return self.fail(PROTOCOL_ERROR, "message begun inside a message")
        return True

    cdef bint begin_frame(self) except -1:
        cdef int length = self.head[1] & 0x7F
        cdef int octets = 8 if length == 127 else 2 if length == 126 else 0
        cdef uint64_t size = 0 if octets else length
        cdef int i
        for i in range(octets):
            size = (size << 8) | self.head[2 + i]
        if octets == 2 and size <= CONTROL_MAX or octets == 8 and size <= 0xFFFF:
            return self.fail(PROTOCOL_ERROR, "length not in its shortest form")
        if size >> 63:
            return self.fail(PROTOCOL_ERROR, "length past 63 bits")
        self.opcode = self.head[0] & 0x0F
        self.is_final = self.head[0] & 0x80 != 0
        if self.opcode < OP_CLOSE:
            if size > <uint64_t>(self.max_message_bytes - self.message_size):
                return self.fail(TOO_BIG, f"message past {self.max_message_bytes} octets")
            if self.opcode != OP_CONTINUATION:
                self.message_opcode = self.opcode
        for i in range(4):
            self.mask[i] = 0 if self.is_client else self.head[2 + octets + i]
        self.head_size = 0
        self.payload_size = <Py_ssize_t>size
        self.payload_read = 0
        self.in_payload = True
        return True

    cdef int take_whole(self, const uint8_t* data, list messages) except -1:
        """The usual frame: a message of one piece, all here."""
        cdef bytes message = PyBytes_FromStringAndSize(NULL, self.payload_size)
        cdef uint8_t* out = <uint8_t*>PyBytes_AS_STRING(message)
        xor(out, data, self.payload_size, self.mask, 0)
        if self.message_opcode == OP_TEXT and not (
            is_utf8(&self.utf8, out, self.payload_size) and self.utf8.missing == 0
        ):
            self.fail(INVALID_DATA, "text is not UTF-8")
            return 0
        self.message_opcode = 0
        messages.append(message)

    cdef int take_part(self, const uint8_t* data, Py_ssize_t size, list messages) except -1:
        cdef uint8_t* out
        self.make_room(size)
        out = self.message + self.message_size
        xor(out, data, size, self.mask, self.payload_read)
        self.payload_read += size
        self.message_size += size
        self.in_payload = self.payload_read < self.payload_size
        cdef bint is_ended = self.is_final and not self.in_payload
        if self.message_opcode == OP_TEXT and (
            not is_utf8(&self.utf8, out, size) or is_ended and self.utf8.missing
        ):
            self.fail(INVALID_DATA, "text is not UTF-8")
            return 0
        if is_ended:
            messages.append(PyBytes_FromStringAndSize(<char*>self.message, self.message_size))
            self.message_opcode = 0
            self.message_size = 0

    cdef int make_room(self, Py_ssize_t size) except -1:
        """Grow with what has arrived, never with what a head merely announces."""
        cdef Py_ssize_t wanted = self.message_size + size
        if wanted <= self.message_room:
            return 0
        wanted = max(wanted, min(2 * self.message_room, self.max_message_bytes))
        cdef void* grown = PyMem_Realloc(self.message, wanted)
        if grown == NULL:
            raise MemoryError
        self.message = <uint8_t*>grown
        self.message_room = wanted

    cdef int end_control(self) except -1:
        cdef bytes payload = PyBytes_FromStringAndSize(<char*>self.control, self.payload_size)
        if self.opcode == OP_CLOSE:
            self.end_close(payload)
        elif self.opcode == OP_PING and not self.close_sent:
            self.replies.append(self.encode(OP_PONG, payload))

    cdef int end_close(self, bytes payload) except -1:
        cdef int code = NO_STATUS
        cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
        cdef Utf8 utf8 = Utf8(0, 0, 0)
        if size:
            code = self.control[0] << 8 | self.control[1] if size > 1 else 0
            if not is_wire_code(code):
                self.fail(PROTOCOL_ERROR, f"close code {code}")
                return 0
            if not is_utf8(&utf8, self.control + 2, size - 2) or utf8.missing:
                self.fail(INVALID_DATA, "close reason is not UTF-8")
                return 0
        self.close_code = code
        self.close_reason = payload[2:].decode()
        if not self.close_sent:
            self.replies.append(self.encode_close(code))

    cdef bint fail(self, int code, str reason) except -1:
        """Receiving is over by the peer's fault; always False."""
        self.close_code = code
        self.close_reason = reason
        self.is_fault = True
        if not self.close_sent:
            self.replies.append(self.encode_close(code, reason))
        return False

    # --- sending --------------------------------------------------------------------------

    def encode_close(self, int code, str reason=""):
        cdef bytes payload = b""
        if code != NO_STATUS:
            if not is_wire_code(code):
                raise LocalProtocolError(f"close code {code} must not be sent")
            payload = code.to_bytes(2) + reason.encode()[:REASON_MAX].decode(
                errors="ignore"  # a character cut in two
            ).encode()
        self.close_sent = True
        return self.encode(OP_CLOSE, payload)

    cpdef bytes encode(self, int opcode, bytes payload):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(payload)
        cdef int octets = 8 if size > 0xFFFF else 2 if size > CONTROL_MAX else 0
        cdef int head_size = 2 + octets + (4 if self.is_client else 0)
        cdef bytes frame = PyBytes_FromStringAndSize(NULL, head_size + size)
        cdef uint8_t* out = <uint8_t*>PyBytes_AS_STRING(frame)
        cdef int i
        out[0] = 0x80 | opcode
        out[1] = 127 if octets == 8 else 126 if octets == 2 else size
        for i in range(octets):
            out[2 + i] = size >> (8 * (octets - 1 - i))
        if self.is_client:
            out[1] |= 0x80
            self.next_mask(out + head_size - 4)
            xor(out + head_size, <uint8_t*>PyBytes_AS_STRING(payload), size,
                out + head_size - 4, 0)
        else:
            memcpy(out + head_size, PyBytes_AS_STRING(payload), size)
        return frame

    cdef int next_mask(self, uint8_t* out) except -1:
        """Fresh and unpredictable for each frame (section 5.3), drawn by the thousand."""
        if self.masks_used == PyBytes_GET_SIZE(self.masks):
            self.masks = urandom(MASK_POOL)
            self.masks_used = 0
        memcpy(out, PyBytes_AS_STRING(self.masks) + self.masks_used, 4)
        self.masks_used += 4
