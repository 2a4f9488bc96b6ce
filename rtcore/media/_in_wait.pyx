"""The instrument that beats where Trio would wait; see :mod:`rtcore.media.in_wait`.

Trio goes on to wait with the timeout it had before we took our time, so whoever leaves here for
a reason that Trio cannot see sets an alarm that it can. One is set for the next beat, too, each
time Trio gets its turn: nothing that it does then can make a beat late.
"""

from libc.errno cimport EINTR, errno
from libc.math cimport INFINITY

from rtcore.media._beats cimport Beats, Pump

import trio

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

cdef extern from "<sys/timerfd.h>" nogil:
    struct itimerspec:
        timespec it_interval
        timespec it_value
    int TFD_TIMER_ABSTIME
    int timerfd_settime(int fd, int flags, const itimerspec* when, itimerspec* was)

cdef enum:
    NOBODY = 0
    TRIO = 1
    SOCKETS = 2

cdef double STAY_MAX_S = 0.25  # a beat may move a deadline, and nobody would tell us


cdef class WaitHook:
    """A Trio instrument that beats ``beats``, and reads for it what is not to wait for a beat.

    ``trio_fd`` is what Trio waits for, ``alarm_fd`` a timer among it. ``fault``: what a beat
    raised; from then on nothing beats, and the alarm is set.
    """

    cdef readonly object fault
    cdef Beats _beats
    cdef int _trio_fd, _alarm_fd
    cdef double _offset_s  # from the system's clock to Trio's
    cdef bint _is_stirred, _is_set

    def __init__(self, Beats beats not None, int trio_fd, int alarm_fd):
        self._beats = beats
        self._trio_fd, self._alarm_fd = trio_fd, alarm_fd
        self._offset_s = trio.current_time() - system_s()

    def task_scheduled(self, task):
        """Called by Trio: somebody has something to do."""
        self._is_stirred = True

    def before_io_wait(self, double timeout):
        """Called by Trio, which would wait for at most ``timeout`` seconds; 0: it would not."""
        if self.fault is None:
            try:
                self._stay(timeout)
            except BaseException as fault:  # not for Trio: raised in the task that owns this
                self.fault = fault
                self._set_alarm(0)

    cdef _stay(self, double timeout):
        """Wait and beat until Trio is wanted."""
        cdef double now_s = self._now_s()
        cdef double until_s = now_s + min(timeout, STAY_MAX_S), due_s
        cdef int wanted = NOBODY
        while True:
            self._is_stirred = False
            if self._beats.due_s <= now_s:
                self._beats.beat()
            elif wanted & SOCKETS:
                self._beats.pump.read_at_once()
            if timeout <= 0:
                return  # tasks wait for their turn
            due_s, now_s = self._beats.due_s, self._now_s()
            if self._is_stirred or now_s >= until_s:
                self._set_alarm(now_s)
                return
            wanted = self._sleep(min(until_s, due_s) - now_s)
            if wanted & TRIO:
                self._set_alarm(due_s)
                return
            now_s = self._now_s()

    cdef int _sleep(self, double left_s) except -1:
        """Wait for at most so long, not at all if it is past; say who is wanted."""
        cdef pollfd fds[2]
        cdef timespec left
        cdef int count = 1, ready
        cdef Pump pump = self._beats.pump
        if self._is_set:
            self._unset_alarm()
        fds[0].fd, fds[0].events, fds[0].revents = self._trio_fd, POLLIN, 0
        if pump is not None:
            fds[1].fd, fds[1].events, fds[1].revents = pump._at_once_fd, POLLIN, 0
            count = 2
        left = time_of(max(0.0, left_s))
        with nogil:
            ready = ppoll(fds, count, &left, NULL)
        if ready < 0 and errno != EINTR:  # a signal that concerns Trio reaches it by a socket
            raise OSError(errno, "ppoll")
        if ready <= 0:
            return NOBODY
        return (TRIO if fds[0].revents else 0) | (SOCKETS if count > 1 and fds[1].revents else 0)

    cdef double _now_s(self) noexcept:
        return system_s() + self._offset_s

    cdef int _set_alarm(self, double at_s) except -1:
        """Have Trio wake up at ``at_s`` on its clock, also in the past; infinite: by itself."""
        cdef itimerspec when
        if at_s == INFINITY:
            return 0
        when.it_interval.tv_sec = when.it_interval.tv_nsec = 0
        when.it_value = time_of(max(1e-9, at_s - self._offset_s))
        self._is_set = True
        if timerfd_settime(self._alarm_fd, TFD_TIMER_ABSTIME, &when, NULL) != 0:
            raise OSError(errno, "timerfd_settime")

    cdef int _unset_alarm(self) except -1:
        """Also forgets that it went off."""
        cdef itimerspec when
        when.it_interval.tv_sec = when.it_interval.tv_nsec = 0
        when.it_value = when.it_interval
        self._is_set = False
        if timerfd_settime(self._alarm_fd, 0, &when, NULL) != 0:
            raise OSError(errno, "timerfd_settime")


cdef double system_s() noexcept nogil:
    cdef timespec at
    clock_gettime(CLOCK_MONOTONIC, &at)
    return at.tv_sec + at.tv_nsec * 1e-9


cdef timespec time_of(double seconds) noexcept nogil:
    cdef timespec time
    time.tv_sec = <time_t>min(seconds, 1e9)
    time.tv_nsec = <long>((min(seconds, 1e9) - time.tv_sec) * 1e9)
    return time
