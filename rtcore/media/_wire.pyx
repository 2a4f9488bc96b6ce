"""The octets of one connected socket: read into whole messages, written from whole frames.

What a live line does fifty times a second is here, with no Python call between the kernel and
whoever hears the messages. An end, a fault, a peer that is slow: once a call, and left to
:class:`rtcore.media.fast.FastSocket`, which owns the socket.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport uint8_t

from rtcore.media._beats cimport Pump, Readable
from rtcore.media._frames cimport OP_TEXT, FrameCodec

import os

cdef extern from "<sys/socket.h>" nogil:
    ssize_t recv(int sock, void* buffer, size_t size, int flags)
    ssize_t send(int sock, const void* buffer, size_t size, int flags)


cdef class Wire(Readable):
    """Reads and writes a non-blocking socket by its number, which stays its owner's.

    ``buffer`` is read into, may be shared with others, and must keep its size. ``later`` is
    called when :meth:`send_text` could not write all: the rest is for :meth:`write_on`, or lost.
    """

    def __init__(self, int fd, FrameCodec codec not None, bytearray buffer not None,
                 Py_ssize_t read_max_bytes, later):
        self._fd, self._codec, self._buffer = fd, codec, buffer
        self._read_max_bytes, self._later = read_max_bytes, later
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

    def attend(self, handle, look, fail, Pump pump not None):
        """Have ``pump`` read, and ``handle`` given the messages, until :meth:`leave`.

        ``look`` sees to what is lost or stirred. ``fail`` is given what either of them raises,
        and then nothing is read any more.
        """
        self._handle, self._look, self._fail, self._pump = handle, look, fail, pump
        pump.add(self._fd, self)

    def leave(self):
        """Read nothing more by :meth:`read`; before the socket is closed."""
        cdef Pump pump = self._pump
        self._handle = self._look = self._fail = self._pump = None
        if pump is not None:
            pump.remove(self._fd, self)

    cpdef hurry(self, bint is_urgent):
        """Whether what comes next is to be read at once, and not with the others."""
        if self._pump is not None:
            self._pump.hurry(self._fd, is_urgent)

    def lose(self, str reason not None):
        """Touch the socket no more: its owner gives it up, and its number may be another's soon."""
        self.leave()
        self.lost = self.lost or reason
        self._begun = self._later = None

    cpdef read(self):
        """Read once and hand on what came; never waits, never raises, nothing inside itself."""
        cdef list messages
        handle, fail = self._handle, self._fail  # `look`, or a write in `handle`, may leave
        if handle is None or self._is_reading:
            return
        self._is_reading = True
        try:
            messages = self.receive()
            if self.lost is not None or self._codec.close_code != 0 or self._codec.replies:
                self._look()
            if messages:
                handle(messages)
        except BaseException as exc:  # not for who reads: raised in the task that owns this
            self.leave()
            fail(exc)
        finally:
            self._is_reading = False

    cpdef bint send_text(self, bytes message) except -1:
        """Write ``message`` as one frame if it may go at once; False: it may not, and has not."""
        if self.lost is not None or self._begun is not None:
            return False
        if self._codec.close_code != 0 or self._codec.close_sent:
            return False
        if not self.write(self._codec.encode(OP_TEXT, message)):
            self._later()
        return True

    @property
    def has_begun(self):
        """Whether there is a frame of which only some is written: no other may come between."""
        return self._begun is not None

    cpdef bint write(self, bytes frame) except -1:
        """Hand the kernel ``frame``, with none begun before it; whether it took all."""
        self._begun, self._written = frame, 0
        return self.write_on()

    cpdef bint write_on(self) except -1:
        """Hand the kernel the rest of the frame begun; whether nothing is left of it."""
        cdef ssize_t size
        if self.lost is not None:
            self._begun = None
            return False
        if self._begun is None:
            return True
        size = send(
            self._fd,
            PyBytes_AS_STRING(self._begun) + self._written,
            PyBytes_GET_SIZE(self._begun) - self._written,
            0,
        )
        if size < 0:
            self._failed(errno)
            return False
        self._written += size
        if self._written < PyBytes_GET_SIZE(self._begun):
            return False
        self._begun = None
        return True
