"""The octets of one socket, as other compiled rooms may have them written."""

from rtcore.media._beats cimport Pump, Readable
from rtcore.media._frames cimport FrameCodec


cdef class Wire(Readable):
    cdef readonly str lost  # why nothing more can be read or written; None while it can
    cdef int _fd
    cdef Py_ssize_t _read_max_bytes
    cdef bytearray _buffer
    cdef FrameCodec _codec
    cdef object _handle, _look, _fail
    cdef Pump _pump  # that reads for us; None: nobody does
    cdef bint _is_reading
    cdef object _later
    cdef bytes _begun  # the frame whose writing has begun; None: all of it is written
    cdef Py_ssize_t _written  # octets of it

    cpdef list receive(self)
    cpdef read(self)
    cpdef hurry(self, bint is_urgent)
    cpdef bint send_text(self, bytes message) except -1
    cpdef bint write(self, bytes frame) except -1
    cpdef bint write_on(self) except -1
    cdef int _failed(self, int error) except -1
