"""The way out of a call, for the usual piece: the next 40 ms of what the agent says.

Read it from top to bottom: the paced sound gives what is due, the carrier's codec makes a
message of it, the wire a frame, and the kernel takes it. All of these are compiled, and this
joins them without a Python call between; whatever is not usual is left to
:class:`rtcore.media.line.Line`, which is built on this. The twin, ``_way_out_py``, is the
specification.
"""

from rtcore.media._paced cimport PacedSound
from rtcore.media._wire cimport Wire
from rtcore.protocol._media cimport MediaWriter


cdef class WayOut:
    """What a piece passes through; attributes are the line's own."""

    cdef public double due_s  # when to be pumped again
    cdef public PacedSound playout
    cdef public MediaWriter _codec
    cdef public Wire _wire  # None: of a socket that has none
    cdef public object _pacer
    cdef public object _room  # an event, set when half has gone; None: nobody waits
    cdef public long long _unsent_max  # samples; half of it unsent: there is room

    def pump(self, double now_s):
        """Write what is due at ``now_s``; the pacer calls it from ``due_s`` on, while we speak."""
        cdef PacedSound playout = self.playout
        cdef bytes message
        for piece in playout.due(now_s):
            message = None
            if self._wire is not None and type(piece) is bytes:
                message = self._codec.write_piece(piece)
            if message is None or not self._wire.send_text(message):
                self._write(piece)
        if not playout.waits():
            self._pacer.rest(self)
        self.due_s = playout.next_s()
        if self._room is not None and playout.end - playout.sent <= self._unsent_max // 2:
            self._room.set()
            self._room = None
