"""What every frame passes through, as other compiled rooms may call it."""

from rtcore.turn._guard cimport Guard


cdef class InOrder:
    cdef public long long frames  # passed on, those made up included
    cdef public long long _expected  # the number of the next one; NO_CHUNK before the first
    cdef public double _window_ms
    cdef public double _last_s  # when the last frame passed; infinity before the first
    cdef public double _held_since_s
    cdef public dict _held  # came early: by number
    cdef public object _concealer

    cdef bytes passed(self, frame, long long chunk, double now_s)
    cdef bint overdue(self, double now_s) noexcept


cdef class VoiceSpell:
    cdef readonly bint active
    cdef readonly long long onset_sample  # of the present or last spell
    cdef readonly long long end_sample  # end of its last voiced frame
    cdef readonly int voiced_frames  # in it
    cdef int _bits  # the last eight frames, newest lowest: voiced or not
    cdef int _pitch  # the same: periodic or not
    cdef int _start_frames, _start_mask, _pause_samples

    cpdef configure(self, int start_ms, int stop_ms)
    cpdef int push(self, bint voiced, bint periodic, long long now, bint likely=*)


cdef class FrameWatch:
    cdef public Guard _guard
    cdef public VoiceSpell _spell
    cdef public object _turn  # the open turn, if ``is_open``
    cdef object _judge_voice
    cdef public long long _now  # samples
    cdef public long long _due  # when to look though nothing has changed
    cdef public long long _deaf_until  # frames that end before count as silence: the one gate
    cdef public long long _far_at  # when our sound was last heard
    cdef public bint _weighs  # the agent has the floor and the caller's voice is on
    cdef public bint _is_wary  # the agent speaks, and more voice may be a suspicion

    cdef list heard(self, pcm, far)
    cdef bint awaited(self) noexcept


cdef class SpeechGate:
    cdef readonly bint is_open
    cdef bint _pass_all
    cdef int _chunk_frames
    cdef long long _start_sample, _now_samples
    cdef list _frames
    cdef bytearray _preroll
    cdef Py_ssize_t _at  # in it: where the next frame goes
    cdef bint _is_full

    cpdef tuple push(self, bytes frame)
    cdef void _keep(self, bytes frame) noexcept
    cdef tuple _take(self)
