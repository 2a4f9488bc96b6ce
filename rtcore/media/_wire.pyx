"""The octets of one connected socket: read into whole messages, written from whole frames.

What a live line does fifty times a second is here, with no Python call between the kernel and
whoever hears the messages. An end, a fault, a peer that is slow: once a call, and left to
:class:`rtcore.media.fast.FastSocket`, which owns the socket.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t

from rtcore.media._frames cimport FrameCodec

import os

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int sock, void* buffer, size_t size, int flags)
    ssize_t send(int sock, const void* buffer, size_t size, int flags)


cdef class Wire:
    """Reads and writes a non-blocking socket by its number, which stays its owner's.

    ``buffer`` is read into, may be shared with others, and must keep its size.
    """

    cdef readonly str lost  # why nothing more can be read or written; None while it can
    cdef int _fd
    cdef Py_ssize_t _read_max_bytes
    cdef bytearray _buffer
    cdef FrameCodec _codec
    cdef object _handle, _look, _fail

    def __init__(self, int fd, FrameCodec codec not None, bytearray buffer not None,
                 Py_ssize_t read_max_bytes):
        self._fd, self._codec, self._buffer = fd, codec, buffer
        self._read_max_bytes = read_max_bytes
        if len(buffer) < read_max_bytes:
            raise ValueError(f"{len(buffer)} octets are no room for {read_max_bytes}")

    cpdef list receive(self):
        """Read once; what has come whole, [] also where ``lost`` or the codec says why."""
        cdef list messages = []
        cdef ssize_t size
        if self.lost is not None:
            return messages
        size = recv(self._fd, PyByteArray_AS_STRING(self._buffer), self._read_max_bytes, 0)
        if size > 0:
            self._codec.parse(
                <const uint8_t*>PyByteArray_AS_STRING(self._buffer), size, messages
            )
        elif size == 0:
            self.lost = "connection ended without a close"
        else:
            self._failed(errno)
        return messages

    cdef int _failed(self, int error) except -1:
        if error != EAGAIN and error != EINTR:  # those two may be tried again
            self.lost = f"connection lost: {os.strerror(error)}"

    def attend(self, handle, look, fail):
        """Have :meth:`read` give ``handle`` the messages; ``look`` sees to what is lost or stirred.

        ``fail`` is given what either of them raises, and then nothing is read any more.
        """
        self._handle, self._look, self._fail = handle, look, fail

    def leave(self):
        """Read nothing more by :meth:`read`."""
        self._handle = self._look = self._fail = None

    def close(self):
        """Touch the socket no more: its owner closes it, and its number may be another's soon."""
        self.leave()
        self.lost = self.lost or "closed"

    def read(self):
        """Read once and hand on what came; never waits, never raises."""
        cdef list messages
        handle, fail = self._handle, self._fail  # `look`, or a write in `handle`, may leave
        if handle is None:
            return
        try:
            messages = self.receive()
            if self.lost is not None or self._codec.close_code != 0 or self._codec.replies:
                self._look()
            if messages:
                handle(messages)
        except BaseException as exc:  # not for who reads: raised in the task that owns this
            self.leave()
            fail(exc)

    def write(self, bytes frame not None, Py_ssize_t written):
        """Hand the kernel ``frame`` from ``written`` on; how far it is written now."""
        cdef ssize_t size
        if self.lost is not None:
            return written
        size = send(
            self._fd, PyBytes_AS_STRING(frame) + written, PyBytes_GET_SIZE(frame) - written, 0
        )
        if size >= 0:
            return written + size
        self._failed(errno)
        return written
