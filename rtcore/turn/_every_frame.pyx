"""What every 20 ms frame of a call passes through: all there is to do for the usual one.

Fifty times a second nothing happens: the frame is the one that was expected, nobody begins or
stops to speak, nothing is due. That much is here, with its state in C fields, for in a busy
node the memory it is scattered over costs more than the work. What else a frame may bring is
left to Python: :class:`InOrder` is the base of ``media_clock.MediaClock``, :class:`FrameWatch`
of ``detector.TurnDetector``. The twin, ``_every_frame_py``, is the specification.

What other compiled rooms call is ``cdef``, with a ``def`` of its own for Python: a ``cpdef`` of a
class that Python builds on would look for an override at each call, which costs as much as most
of these do.
"""

from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.math cimport INFINITY
from libc.string cimport memcpy

from rtcore.turn._guard cimport AUDIBLE, FAR, FRAME, LOUD, PERIODIC, TONE

from rtcore.audio import Concealer

cdef enum:
    FRAME_MS = 20
    FRAME_OCTETS = 320
    SAMPLES_PER_MS = 8
    WENT_ON_SAMPLES = 480  # a gap of 60 ms

cpdef enum:
    UNCHANGED = 0  # what a frame did to the spell
    STARTED = 1
    STOPPED = 2
    NO_CHUNK = -1
    WINDOW_MIN_MS = 20
    READ_FRAMES = 2  # heard in one go where nobody waits for them, see rtcore.media.pacer
    STALL_MS = 100  # no audio for so long: silence is put in, so that timers go on
    FAR_GAP_SAMPLES = 4800  # 600 ms without a sound of ours: no pause between words is that long


cdef class InOrder:
    """Frames one after the other, as they nearly always come; others go to ``_sort``."""

    def __init__(self):
        self.frames = 0
        self._expected = NO_CHUNK
        self._window_ms = WINDOW_MIN_MS
        self._last_s = INFINITY
        self._held_since_s = 0.0
        self._held = {}
        self._concealer = Concealer()

    def push(self, frame, chunk, double now_s):
        """Take one frame that arrived at ``now_s``; return those whose turn has come."""
        heard = self.passed(frame, NO_CHUNK if chunk is None else <long long>chunk, now_s)
        return [heard] if heard is not None else self._sort(frame, chunk, now_s)

    cdef bytes passed(self, frame, long long chunk, double now_s):
        """Pass the frame on if its turn has come and no other waits; ``None``: it is to sort."""
        if self._held:
            return None
        if chunk != NO_CHUNK:
            if self._expected != NO_CHUNK and self._expected != chunk:
                return None
            self._expected = chunk + 1
        heard = self._concealer.good(frame)
        if self._window_ms > WINDOW_MIN_MS:
            self._window_ms = max(WINDOW_MIN_MS, self._window_ms - 0.01)  # 1 ms for every 2 s
        self.frames += 1
        self._last_s = now_s
        return heard

    def is_due(self, double now_s):
        """Whether :meth:`tick` has something to do: a comparison or two, asked in each beat."""
        return self.overdue(now_s)

    cdef bint overdue(self, double now_s) noexcept:
        if self._held:
            return (now_s - self._held_since_s) * 1000 >= self._window_ms
        return (now_s - self._last_s) * 1000 >= STALL_MS


cdef class VoiceSpell:
    """Hysteresis: a spell starts with most of a few frames voiced and ends after a silence.

    Within a spell a single voiced frame after a gap of 60 ms (a breath, a click on the line)
    does not prolong it; two of three do. So the silence is counted from the last real voice.
    """

    def __init__(self, int start_ms, int stop_ms):
        self.configure(start_ms, stop_ms)

    cpdef configure(self, int start_ms, int stop_ms):
        self._start_frames = max(start_ms // FRAME_MS, 1)
        self._start_mask = (1 << (self._start_frames + 1)) - 1  # one frame may miss
        self._pause_samples = stop_ms * SAMPLES_PER_MS

    cpdef int push(self, bint voiced, bint periodic, long long now, bint likely=False):
        """Take one frame that ended at ``now``; a spell starts only where there is pitch.

        Where it is ``likely`` to be voice, one frame less will do: far above what the line may
        return of our own voice, or in the pause of a turn, which is cut off otherwise.
        """
        cdef int recent, voiced_frames = 0, reach = 0
        self._pitch = (self._pitch << 1 | periodic) & 0xFF
        self._bits = (self._bits << 1 | voiced) & 0xFF
        if self.active:
            if voiced:
                self.voiced_frames += 1
                # went on, or two of three
                if now - self.end_sample <= WENT_ON_SAMPLES or self._bits & 0b110:
                    self.end_sample = now
            elif now - self.end_sample >= self._pause_samples:
                self.active = False
                return STOPPED
            return UNCHANGED
        recent = self._bits & self._start_mask
        if not voiced or not recent & self._pitch:
            return UNCHANGED
        while recent >> reach:
            voiced_frames += recent >> reach & 1
            reach += 1
        if voiced_frames + likely < self._start_frames:
            return UNCHANGED
        self.active = True
        self.voiced_frames = voiced_frames
        self.onset_sample = now - reach * FRAME
        self.end_sample = now
        return STARTED

    @property
    def is_stirring(self):
        """Whether a spell may be about to start: one of the last two frames was voiced."""
        return not self.active and self._bits & 0b11 != 0

    def reset(self):
        """Forget the spell: what was heard so far does not count."""
        self.active = False
        self._bits = self._pitch = 0


cdef class FrameWatch:
    """Hears every frame; where one changes something, or something is due, ``_look`` decides."""

    def __init__(self, Guard guard, judge_voice, VoiceSpell spell, turn):
        self._guard, self._judge_voice, self._spell = guard, judge_voice, spell
        self._turn = turn
        self._far_at = -FAR_GAP_SAMPLES

    def push(self, pcm, far=None):
        """Take one frame of the caller and what they hear of us meanwhile.

        Args:
            pcm: 160 samples of int16 at 8 kHz: bytes, array, memoryview or numpy array.
            far: the same of what the caller is estimated to be hearing now, or None.

        Raises:
            ValueError: a frame is not 320 octets.
        """
        return self.heard(pcm, far)

    cdef list heard(self, pcm, far):
        cdef int change, flags = self._guard.push(pcm, far)
        cdef long long now = self._now + FRAME
        cdef bint voiced, likely, sounds = False
        self._now = now
        voiced = self._judge_voice(pcm)
        voiced = voiced and flags & (AUDIBLE | TONE) == AUDIBLE and now > self._deaf_until
        likely = voiced and (flags & LOUD != 0 or self._turn.is_open)
        change = self._spell.push(voiced, flags & PERIODIC != 0, now, likely)
        if flags & FAR:
            sounds = now - self._far_at > FAR_GAP_SAMPLES
            self._far_at = now
        if change == UNCHANGED and now < self._due and not self._weighs and not sounds:
            return []
        return self._look(change, voiced, flags, sounds)

    @property
    def is_awaited(self):
        """Whether somebody waits for the next frame or the one after: each is to be heard at once.

        With either, speech or a turn may end, or a suspicion over our own voice may be roused. Of
        any others it is enough if two are heard together, the first 20 ms late or more.
        """
        return self.awaited()

    cdef bint awaited(self) noexcept:
        cdef VoiceSpell spell = self._spell
        cdef long long end = self._now + READ_FRAMES * FRAME
        if self._due <= end:
            return True
        if spell.active:  # at its end the recogniser is asked for what is final
            return self._is_wary or spell.end_sample + spell._pause_samples <= end
        return self._is_wary and spell._bits & spell._start_mask >> 1 != 0  # it may start


cdef class SpeechGate:
    """Gathers frames into chunks. ``is_open`` from the onset of speech to its end.

    The pre-roll is a ring: frames that are kept as they are would be as many cold blocks of
    memory, taken anew for each frame of a silent caller.
    """

    def __init__(self, *, int preroll_ms, int chunk_ms, bint pass_all):
        self._preroll = bytearray(preroll_ms // FRAME_MS * FRAME_OCTETS)
        self._chunk_frames = max(1, chunk_ms // FRAME_MS)
        self._frames = []
        self._pass_all = self.is_open = pass_all

    cpdef tuple push(self, bytes frame):
        """Take one frame; return ``(start_sample, pcm)`` when a chunk is full.

        Raises:
            ValueError: it is not 320 octets.
        """
        if frame is None:
            raise TypeError("a frame is bytes")
        if PyBytes_GET_SIZE(frame) != FRAME_OCTETS:
            raise ValueError("a frame is 160 samples of int16 (320 octets)")
        self._now_samples += FRAME
        if not self.is_open:
            self._keep(frame)
            return None
        if not self._frames:
            self._start_sample = self._now_samples - FRAME
        self._frames.append(frame)
        return self._take() if len(self._frames) >= self._chunk_frames else None

    cdef void _keep(self, bytes frame) noexcept:
        cdef Py_ssize_t size = PyByteArray_GET_SIZE(self._preroll)
        if size == 0:
            return
        memcpy(PyByteArray_AS_STRING(self._preroll) + self._at, PyBytes_AS_STRING(frame),
               FRAME_OCTETS)
        self._at += FRAME_OCTETS
        if self._at == size:
            self._at = 0
            self._is_full = True

    def open(self):
        """Speech has begun: return the pre-roll, to be sent at once."""
        if self.is_open:
            return None
        self.is_open = True
        pcm = bytes(self._preroll[: self._at])
        if self._is_full:
            pcm = bytes(self._preroll[self._at :]) + pcm
        self._at, self._is_full = 0, False
        return (self._now_samples - len(pcm) // 2, pcm) if pcm else None

    def close(self):
        """Speech is over: return what is left of it."""
        self.is_open = self._pass_all
        return self._take()

    cdef tuple _take(self):
        if not self._frames:
            return None
        pcm = b"".join(self._frames)
        self._frames.clear()
        return self._start_sample, pcm
