"""The clock that beats while Trio sleeps; see :mod:`rtcore.media.in_wait`."""

from libc.errno cimport EINTR, errno

from rtcore.media._beats cimport Beats, Pump

import random

cdef extern from "<time.h>" nogil:
    ctypedef long time_t
    struct timespec:
        time_t tv_sec
        long tv_nsec
    int CLOCK_MONOTONIC
    int clock_gettime(int clock, timespec* at)

cdef extern from "<poll.h>" nogil:
    struct pollfd:
        int fd
        short events
        short revents
    short POLLIN
    int ppoll(pollfd* fds, unsigned long count, const timespec* timeout, const void* signals)

cdef enum:
    NOBODY = 0
    TRIO = 1
    SOCKETS = 2

cdef double STAY_MAX_S = 0.25  # a beat may move a deadline, and nobody would tell us


cdef class WaitClock:
    """What Trio calls of a clock and of an instrument.

    A clock that runs as time does. Between :meth:`begin` and :meth:`end` Trio's sleep is ours.
    """

    cdef Beats _beats  # None: Trio sleeps by itself
    cdef object _on_fault
    cdef int _trio_fd
    cdef double _offset_s  # from the system's clock: whoever mixes the two shall notice
    cdef bint _is_stirred, _has_stayed

    def __init__(self):
        self._offset_s = random.uniform(10_000, 200_000)

    @property
    def is_beating(self):
        """Whether somebody's beats are in the wait of this run."""
        return self._beats is not None

    def begin(self, Beats beats not None, int trio_fd, on_fault):
        """Beat ``beats`` while Trio would wait for ``trio_fd``.

        What a beat raises is given to ``on_fault``, and is the end of it.
        """
        self._beats, self._trio_fd, self._on_fault = beats, trio_fd, on_fault

    def end(self):
        """Let Trio sleep by itself."""
        self._beats = self._on_fault = None

    def start_clock(self):
        """Called by Trio as its run begins."""

    def current_time(self):
        """Seconds since some time or other."""
        return self._now_s()

    def deadline_to_sleep_time(self, double deadline):
        """Called by Trio when no task can run: how long it may sleep."""
        if self._beats is not None:
            try:
                self._stay(deadline)
            except BaseException as fault:  # not for Trio: raised in the task that began this
                self._fail(fault)
            self._has_stayed = True
            return 0.0
        return deadline - self._now_s()

    def before_io_wait(self, double timeout):
        """Called by Trio, also while tasks can run, which then do not make a beat late for long."""
        if self._has_stayed:  # and has beaten, just now: it is the tasks' turn
            self._has_stayed = False
        elif self._beats is not None and self._beats.due_s <= self._now_s():
            try:
                self._beats.beat()
            except BaseException as fault:
                self._fail(fault)

    def task_scheduled(self, task):
        """Called by Trio: somebody has something to do."""
        self._is_stirred = True

    cdef _fail(self, fault):
        on_fault = self._on_fault
        self.end()
        on_fault(fault)

    cdef _stay(self, double deadline_s):
        """Wait and beat until Trio is wanted."""
        cdef double now_s = self._now_s()
        cdef double until_s = min(deadline_s, now_s + STAY_MAX_S)
        cdef Beats beats = self._beats
        cdef int wanted = NOBODY
        while True:
            self._is_stirred = False
            if beats.due_s <= now_s:
                beats.beat()
            elif wanted & SOCKETS:
                beats.pump.read_at_once()
            now_s = self._now_s()
            if self._is_stirred or now_s >= until_s:
                return
            wanted = self._sleep(min(until_s, beats.due_s) - now_s)
            if wanted & TRIO:
                return
            now_s = self._now_s()

    cdef int _sleep(self, double left_s) except -1:
        """Wait for at most so long, not at all if it is past; say who is wanted."""
        cdef pollfd fds[2]
        cdef timespec left
        cdef int count = 1, ready
        cdef Pump pump = self._beats.pump
        fds[0].fd, fds[0].events, fds[0].revents = self._trio_fd, POLLIN, 0
        if pump is not None:
            fds[1].fd, fds[1].events, fds[1].revents = pump._at_once_fd, POLLIN, 0
            count = 2
        left_s = max(0.0, left_s)
        left.tv_sec = <time_t>left_s
        left.tv_nsec = <long>((left_s - left.tv_sec) * 1e9)
        with nogil:
            ready = ppoll(fds, count, &left, NULL)
        if ready < 0 and errno != EINTR:  # a signal that concerns Trio reaches it by a socket
            raise OSError(errno, "ppoll")
        if ready <= 0:
            return NOBODY
        return (TRIO if fds[0].revents else 0) | (SOCKETS if count > 1 and fds[1].revents else 0)

    cdef double _now_s(self) noexcept:
        cdef timespec at
        clock_gettime(CLOCK_MONOTONIC, &at)
        return self._offset_s + at.tv_sec + at.tv_nsec * 1e-9
