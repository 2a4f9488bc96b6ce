"""The media message, as other compiled rooms may have it read and written."""

cpdef enum:
    NO_CHUNK = -1  # the carrier numbers them from 1


cdef class MediaReader:
    cdef public str _plain_encoding
    cdef public int _malformed_in_a_row
    cdef readonly long long chunk

    cpdef bytes read_frame(self, bytes message)


cdef class MediaWriter(MediaReader):
    cdef public bytes _play_head

    cpdef bytes write_piece(self, bytes pcm)
