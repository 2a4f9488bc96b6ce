"""The way in of a call, for the usual message: the next 20 ms of the caller's audio.

Read it from top to bottom: a message is read by the carrier's codec, the media clock says whose
turn the frame has, the caller's clock moves on by a frame, the turn machine and the ears hear
it. All of these are compiled, and this joins them without a Python call between; whatever is
not usual is left to :class:`rtcore.call.Call`, which is built on this. The twin,
``_way_in_py``, is the specification.
"""

from rtcore._far_end cimport FarEnd
from rtcore.media._wire cimport Wire
from rtcore.protocol._media cimport NO_CHUNK, MediaReader
from rtcore.turn._every_frame cimport FrameWatch, InOrder, SpeechGate


cdef class WayIn:
    """What a frame of the caller passes through; attributes are the call's own."""

    cdef public MediaReader _codec
    cdef public InOrder _clock
    cdef public FrameWatch _detector
    cdef public SpeechGate _gate  # of the ears; None: they gather for themselves
    cdef public object _ears
    cdef public FarEnd _far_end  # what the caller hears of us meanwhile
    cdef public object recorder
    cdef public Wire _wire  # of the socket; None: of one that has none
    cdef object _time_s

    def __init__(self, time_s):
        self._time_s = time_s

    def _on_messages(self, list messages not None):
        """All that came in one go, in order."""
        cdef bytes message, frame, heard
        cdef double now_s = self._time_s()
        for message in messages:
            frame = MediaReader.read_frame(self._codec, message)  # by class: no override is sought
            if frame is None:
                self._on_unusual(message)
                continue
            heard = self._clock.passed(frame, self._codec.chunk, now_s)
            if heard is not None:  # its turn has come, as nearly always
                self._heard(heard)
                continue
            number = self._codec.chunk if self._codec.chunk != NO_CHUNK else None
            for frame in self._clock.push(frame, number, now_s):
                self._heard(frame)
        self._hurry()

    def _hurry(self):
        """Have the next frame read at once if something waits for it.

        To be called whenever the turn machine has heard or was told something.
        """
        if self._wire is not None:
            self._wire.hurry(self._detector.awaited())

    def _hear(self, bytes frame):
        """One 20 ms frame of the caller, in order: the only clock the conversation knows."""
        self._heard(frame)

    cdef _heard(self, bytes frame):
        cdef list decided
        far = self._far_end.heard_now()
        if self.recorder is not None:
            self.recorder.push(frame, far)
        decided = self._detector.heard(frame, far)
        if self._gate is None:
            self._ears.push(frame)
        else:
            chunk = self._gate.push(frame)
            if chunk is not None:
                self._ears.hand_on(chunk)
        if decided:
            self._on_turn(decided)

    def tick(self, double now_s):
        """Called by the pacer in each beat: whether audio is overdue."""
        if self._clock.overdue(now_s):
            self._is_overdue()
