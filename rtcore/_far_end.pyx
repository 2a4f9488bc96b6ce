"""What the caller hears of us, asked with every frame of theirs: where their ear is in our sound.

Three counts and a slice, in C fields because no frame passes without them. :class:`HeardCount`
is the base of :class:`rtcore.ledger.Ledger`; :class:`FarEnd`, which joins it to the line's
:class:`rtcore.media._paced.PacedSound`, is that of :class:`rtcore.reply.Mouth`. The twin,
``_far_end_py``, is the specification.
"""

from rtcore.media._paced cimport PacedSound

cdef enum:
    FRAME = 160  # samples


cdef class HeardCount:
    """How much of our sound was appended, sent and heard, in samples along one line."""

    def note_sent(self, long long sent):
        """The playout has written up to position ``sent``."""
        self.wrote(sent)

    def advance(self, long long samples):
        """The caller's audio moved on by ``samples``; whether they heard something meanwhile."""
        return self.moved_on(samples)

    cdef void wrote(self, long long sent) noexcept:
        if self.heard >= self.sent and sent > self.sent:
            self._lag_left = self._lag  # the line was quiet: it takes this long to be heard
        self.sent = sent

    cdef bint moved_on(self, long long samples) noexcept:
        cdef long long position
        if self._lag_left > 0:
            self._lag_left -= samples
            return False
        position = min(self.sent, self.heard + samples)
        if position <= self.heard:
            return False
        self.heard = position
        return True


cdef class FarEnd:
    """The far end of the turn machine. ``_ledger`` and ``_playout`` are set by who builds on it."""

    def listen(self):
        """The caller's clock moved on by a frame; return what the caller heard of us meanwhile.

        ``None`` where that was nothing.
        """
        return self.heard_now()

    cdef bytes heard_now(self):
        cdef HeardCount ledger = self._ledger
        cdef PacedSound playout = self._playout
        if ledger.heard >= ledger.appended:
            return None
        if ledger.sent != playout.sent:
            ledger.wrote(playout.sent)
        if not ledger.moved_on(FRAME):
            return None
        if ledger.heard >= ledger.appended:
            self._on_drained()
        return PacedSound.heard_frame(playout, ledger.heard)  # by class: no override is sought
