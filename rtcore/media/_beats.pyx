"""What a beat does: what came is read, what is due is written, all calls are looked after.

What happens twenty-five times a second is here, from the kernel's list of readable sockets to
the call of whoever reads one, without a Python call between. When the next beat is due is
decided here too; waiting for it is left to :class:`rtcore.media.pacer.Pacer`, which is built on
:class:`Beats`.
"""

from libc.errno cimport EINTR, errno
from libc.math cimport INFINITY
from libc.stdint cimport uint32_t

import select

import trio

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_wait(int epoll, epoll_event* events, int events_max, int timeout_ms)

cdef enum:
    READ_MAX = 8  # sockets, before the other tasks get their turn: some 0.3 ms of work. An
    # answer passes from task to task half a dozen times, and behind 64 it waited 1 ms each time
    WHOLE_MAX = 32  # so few are read in one go: an answer waits behind them once, some 1 ms,
    # and a node of few calls, woken cold, is spared the turns of Trio's between

cdef double BEAT_S = 0.04  # as long as the pieces of speech that are written: two frames
cdef double LATE_S = 0.01  # half a frame
cdef double LAG_DECAY = 0.94  # a beat; half is forgotten after 11 beats, 0.5 s

READ_MAX_SOCKETS, WHOLE_MAX_SOCKETS, BEAT_MS = READ_MAX, WHOLE_MAX, round(BEAT_S * 1000)


cdef class Readable:
    """What can be read when its socket is readable."""

    cpdef read(self):
        """Read once, without waiting; never raises."""


cdef class Pump:
    """One reader for all fast sockets of a process.

    A task per socket pays for each message with a wake-up of its own: arming epoll,
    rescheduling, a switch. Here the kernel lists the sockets that are readable, and each look
    reads those in turn, when the media clock beats. It keeps a second list, which wakes us by
    itself, of those whose next message is urgent: :meth:`hurry`.
    """

    def __init__(self):
        self._all, self._at_once = select.epoll(), select.epoll()
        self._all_fd, self._at_once_fd = self._all.fileno(), self._at_once.fileno()
        self._readers = {}
        self._urgent = set()
        self._buffer = bytearray()

    def fileno(self):
        """Readable while there is something for :meth:`read_at_once`."""
        return self._at_once_fd

    @property
    def sockets(self):
        """How many it reads."""
        return len(self._readers)

    def buffer(self, Py_ssize_t octets):
        """What all its sockets read into, one after the other: warm, and a page less for each.

        Whoever reads into it takes what it wants before anybody else reads.
        """
        if len(self._buffer) < octets:
            self._buffer = bytearray(octets)
        return self._buffer

    cpdef bint read(self) except -1:
        """Read the sockets that are readable, up to a limit; whether there may be more.

        What is still readable comes up again, behind those that have waited longer.
        """
        if self._urgent:
            self._read(self._at_once_fd)
        return self._read(self._all_fd)

    cpdef bint read_at_once(self) except -1:
        """The same, of those alone that are not to wait for a beat."""
        return self._read(self._at_once_fd)

    cdef int portion(self) except -1:
        """How many sockets are read before the other tasks get their turn."""
        return WHOLE_MAX if self.sockets <= WHOLE_MAX else READ_MAX

    cdef bint _read(self, int epoll) except -1:
        cdef epoll_event events[WHOLE_MAX]
        cdef int i, portion = self.portion()
        cdef int readable = epoll_wait(epoll, events, portion, 0)
        if readable < 0 and errno != EINTR:
            raise OSError(errno, "epoll_wait")
        for i in range(readable):
            reader = self._readers.get(events[i].data.fd)
            if reader is not None:
                (<Readable>reader).read()
        return readable == portion

    def add(self, int fd, Readable reader not None):
        """Have ``reader`` read whenever ``fd`` is readable."""
        self._all.register(fd, select.EPOLLIN)
        self._readers[fd] = reader
        if self.on_change is not None:
            self.on_change()

    def remove(self, int fd, reader):
        """Leave ``fd`` alone, if ``reader`` is still what reads it; before ``fd`` is closed."""
        if self._readers.get(fd) is not reader:
            return
        del self._readers[fd]
        self.hurry(fd, False)
        if not self._all.closed:
            self._all.unregister(fd)

    cpdef hurry(self, int fd, bint is_urgent):
        """Whether what ``fd`` brings next is to be read at once, until this is said anew."""
        if is_urgent == (fd in self._urgent) or self._at_once.closed:
            return
        if is_urgent:
            self._urgent.add(fd)
            self._at_once.register(fd, select.EPOLLIN)
        else:
            self._urgent.discard(fd)
            self._at_once.unregister(fd)

    def close(self):
        """Read no more; the sockets are left as they are."""
        self._all.close()
        self._at_once.close()


cdef class Beats:
    """Reads for ``pump`` (or None), serves who is registered, and says when to do so again.

    A wake-up of a nearly idle process costs as much as reading some ten frames, and one that
    finds a hundred of them costs each less than ten that find ten; two frames of one call are
    read together for little more than one. So there is one wake-up for each two frames of time,
    and what cannot wait for it is read at once.
    """

    def __init__(self, Pump pump):
        self.pump = pump
        if pump is not None:
            pump.on_change = self._rouse
        self._speaking, self._watched = {}, {}
        self._time_s = trio.current_time
        self.due_s = INFINITY  # when to beat; never while there is nobody on the line

    def watch(self, call):
        """Tick ``call`` until :meth:`unwatch`."""
        self._watched[call] = None
        self._rouse()

    def unwatch(self, call):
        self._watched.pop(call, None)

    def wake(self, line):
        """``line`` has something to write: pump it until :meth:`rest`."""
        self._speaking[line] = None
        self._rouse()

    def rest(self, line):
        """``line`` has nothing to write for now."""
        self._speaking.pop(line, None)

    @property
    def speaking(self):
        """How many lines have something to write."""
        return len(self._speaking)

    def begin(self):
        """Time counts from now on: nothing was due before."""
        self._time_s = trio.lowlevel.current_clock().current_time  # three Python calls fewer
        self._wait_for(self._time_s())

    cpdef bint beat(self) except -1:
        """Read what has come, then serve all; to be called from ``due_s`` on.

        False: there is more to read. The other tasks may have their turns, then call again.
        """
        cdef double now_s = self._time_s()
        if not self._is_begun:
            self._account(now_s - self.due_s)
            self._is_begun = True
            self._unread = self.pump.sockets if self.pump is not None else 0
        if self.pump is not None:
            # first: who is interrupted need not be written for
            self._unread -= self.pump.portion()
            if self.pump.read() and self._unread > 0:  # what comes meanwhile is the next beat's
                return False
            now_s = self._time_s()
        self._is_begun = False
        self._serve(now_s)
        # beats that were missed are skipped
        self._wait_for(self.due_s + max(0, <int>((now_s - self.due_s) / BEAT_S)) * BEAT_S)
        return True

    cdef bint _serve(self, double now_s) except -1:
        for line in list(self._speaking):
            if <double>line.due_s <= now_s:
                line.pump(now_s)
        for call in self._watched:
            call.tick(now_s)

    cdef bint _wait_for(self, double last_s) except -1:
        """Say when the next beat is due, after one at ``last_s``."""
        if self._speaking or self._watched or self.pump is not None and self.pump._readers:
            self.due_s = last_s + BEAT_S
        else:
            self.due_s = INFINITY

    def _rouse(self):
        if self.due_s == INFINITY:
            self._wait_for(self._time_s())
            self.roused()

    def roused(self):
        """There is something to do again, and ``due_s`` says when: for who waits."""

    cdef bint _account(self, double lateness_s) except -1:
        self.ticks += 1
        self.lag_ms = max(lateness_s * 1000, self.lag_ms * LAG_DECAY)
        self.late_ticks += lateness_s > LATE_S
        self.worst_lateness_s = max(self.worst_lateness_s, lateness_s)
