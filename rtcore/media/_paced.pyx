"""The sound of one line and when each piece of it is due: what the pacer asks for every 40 ms.

One buffer holds the line's recent past and its future::

    base ............ sent ................. end
    (history, heard)      (not yet written)

Pieces are due against absolute time: a run starts when the first piece is written, and from
then on the line has played exactly the time that passed. We stay the lead ahead of that, no
more: enough to hide a stall of ours, little enough that a barge-in silences the agent by
merely not writing on. What happens once a reply is left to :class:`rtcore.media.playout.Playout`,
which is built on this. The twin, ``_paced_py``, is the specification.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_FromStringAndSize, PyBytes_GET_SIZE

from collections import deque

from rtcore.protocol.events import Checkpoint

cdef enum:
    RATE_HZ = 8000
    FRAME = 160  # samples
    HISTORY = RATE_HZ  # 1 s behind the write position: enough for resume and the far end
    EARLY = 80  # 10 ms: a beat that is on time again, after a late one, finds so much less room
    TRIM = RATE_HZ  # and this much slack, so that trimming is rare


cdef class PacedSound:
    """Positions are samples on the line, at 8000 Hz; ``lead_ms`` and ``chunk_ms`` are limits."""

    def __init__(self, int lead_ms, int chunk_ms):
        self._buffer = bytearray()
        self._marks = deque()
        self._lead = lead_ms * RATE_HZ // 1000
        self._least = max(FRAME, chunk_ms * RATE_HZ // 1000 - EARLY)

    @property
    def unsent_samples(self):
        return self.end - self.sent

    @property
    def is_waiting(self):
        """Whether there is something to write as soon as it is due."""
        return self.waits()

    cdef bint waits(self) except -1:
        return not self.is_paused and (self.end > self.sent or bool(self._marks))

    def append(self, bytes pcm not None):
        """Queue audio; a remainder shorter than a frame is padded by :meth:`align`."""
        self._buffer += pcm
        self.end += PyBytes_GET_SIZE(pcm) >> 1

    cpdef list due(self, double now_s):
        """What is to be written now, sound and the checkpoints in it; it counts as written."""
        cdef list out = []
        cdef long long lead, room, stop
        if not self.waits():
            return out
        lead = self._lead_at(now_s)
        if lead < 0:
            if self._is_running and self.end > self.sent:
                self.underruns += 1
                self.underrun_samples -= lead
            self._is_running, self._run_started_s, self._run_samples, lead = True, now_s, 0, 0
        room = self._lead - lead
        if room >= self._least or self.end == self.sent:
            stop = min(self.end, self.sent + room)
            while self._marks and self._marks[0][0] <= stop:
                position, name = self._marks.popleft()
                self._write_until(position, out)
                out.append(Checkpoint(name=name))
            self._write_until(stop, out)
            self._trim()
        return out

    @property
    def due_s(self):
        """When :meth:`due` will have something, if nothing is appended before."""
        return self.next_s()

    cdef double next_s(self) noexcept:
        if not self._is_running:
            return 0.0
        # half a sample: rounding
        return self._run_started_s + (self._run_samples - self._lead + self._least - 0.5) / RATE_HZ

    cpdef bytes heard_frame(self, long long heard):
        """The frame that ends at position ``heard``; None where nothing was playing."""
        cdef long long start = heard - FRAME
        return self._cut(start, heard) if start >= self._base else None

    def end_run(self):
        """The next piece starts a run: what was dry before it is a pause, not an underrun."""
        self._is_running = False

    cpdef long long _lead_at(self, double now_s) except? -1:
        """Samples written and not yet played; negative where the line is dry."""
        if not self._is_running:
            return -1
        return self._run_samples - <long long>((now_s - self._run_started_s) * RATE_HZ + 0.5)

    cdef void _write_until(self, long long position, list out) except *:
        if position > self.sent:
            out.append(self._cut(self.sent, position))
            self._run_samples += position - self.sent
            self.sent = position

    cdef bytes _cut(self, long long start, long long stop):
        """The sound between two positions, or what there is of it."""
        cdef Py_ssize_t at = max(0, (start - self._base) * 2)
        cdef Py_ssize_t size = min((stop - start) * 2, PyByteArray_GET_SIZE(self._buffer) - at)
        return PyBytes_FromStringAndSize(PyByteArray_AS_STRING(self._buffer) + at, max(0, size))

    cdef void _trim(self) except *:
        cdef long long excess = self.sent - self._base - HISTORY
        if excess > TRIM:
            del self._buffer[: excess * 2]
            self._base += excess
