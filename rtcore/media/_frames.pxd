"""The frame codec as other compiled rooms of ``media`` may call it."""

from libc.stdint cimport uint8_t

# opcodes: RFC 6455, section 5.2
cdef enum:
    OP_CONTINUATION = 0
    OP_TEXT = 1
    OP_BINARY = 2
    OP_CLOSE = 8
    OP_PING = 9
    OP_PONG = 10

cdef enum:
    HEAD_MAX = 14  # 2 octets, 8 of length, 4 of mask
    CONTROL_MAX = 125  # section 5.5


cdef struct Utf8:
    # continuation octets still to come, and the range of the next one
    int missing
    uint8_t low
    uint8_t high


cdef class FrameCodec:
    cdef readonly bint is_client
    cdef readonly Py_ssize_t max_message_bytes
    cdef readonly int close_code  # 0 until receiving is over
    cdef readonly str close_reason
    cdef readonly bint is_fault
    cdef readonly bint close_sent
    cdef list replies

    # the frame being read
    cdef uint8_t head[HEAD_MAX]
    cdef int head_size
    cdef bint in_payload
    cdef int opcode
    cdef bint is_final
    cdef uint8_t mask[4]
    cdef Py_ssize_t payload_size
    cdef Py_ssize_t payload_read
    cdef uint8_t control[CONTROL_MAX]

    # the message being read: what came of it in pieces, at most max_message_bytes
    cdef int message_opcode  # 0 between messages
    cdef Utf8 utf8
    cdef uint8_t* message
    cdef Py_ssize_t message_size
    cdef Py_ssize_t message_room

    # masks for the client role
    cdef bytes masks
    cdef Py_ssize_t masks_used

    cdef int parse(self, const uint8_t* data, Py_ssize_t size, list messages) except -1
    cdef Py_ssize_t read_head(self, const uint8_t* data, Py_ssize_t size) except -1
    cdef int whole_head_size(self) noexcept
    cdef bint judge_first_octets(self) except -1
    cdef bint begin_frame(self) except -1
    cdef int take_whole(self, const uint8_t* data, list messages) except -1
    cdef int take_part(self, const uint8_t* data, Py_ssize_t size, list messages) except -1
    cdef int make_room(self, Py_ssize_t size) except -1
    cdef int end_control(self) except -1
    cdef int end_close(self, bytes payload) except -1
    cdef bint fail(self, int code, str reason) except -1
    cpdef bytes encode(self, int opcode, bytes payload)
    cdef int next_mask(self, uint8_t* out) except -1
