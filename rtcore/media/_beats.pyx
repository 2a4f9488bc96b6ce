"""Whose turn each beat is: what came is read, what is due is written, all calls are looked after.

What happens some hundred times a second is here, from the kernel's list of readable sockets to
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
    BEATS_A_FRAME = 4
    READ_MAX = 16  # sockets, before the other tasks get their turn: some 0.3 ms of work. An
    # answer passes from task to task half a dozen times, and behind 64 it waited 1 ms each time
    FEW = 4  # sockets, up to which a wake-up for each message costs less than looking would
    MANY = 40  # from here on each beat finds ten to read

cdef double BEAT_S = 0.005
cdef double LATE_S = 0.01  # half a frame
cdef double LAG_DECAY = 0.9925  # a beat; half is forgotten after 92 beats, 0.5 s

BEATS, FEW_SOCKETS, READ_MAX_SOCKETS = BEATS_A_FRAME, FEW, READ_MAX


cdef class Pump:
    """One reader for all fast sockets of a process: calls back for each that is readable.

    A task per socket pays for each message with a wake-up of its own: arming epoll,
    rescheduling, a switch. Here the sockets are registered once with one epoll, and each look
    reads whatever has become readable, in turn. A few sockets are read the moment something
    comes. Many would wake us for every message: they are looked at when the media clock beats.
    """

    def __init__(self):
        self._epoll = select.epoll()
        self._fd = self._epoll.fileno()
        self._readers = {}
        self._buffer = bytearray()

    def fileno(self):
        """Of what is readable while any of the sockets is: an epoll can itself be waited for."""
        return self._fd

    def buffer(self, Py_ssize_t octets):
        """What all its sockets read into, one after the other: warm, and a page less for each.

        Whoever reads into it takes what it wants before anybody else reads.
        """
        if len(self._buffer) < octets:
            self._buffer = bytearray(octets)
        return self._buffer

    cdef bint is_many(self):
        return self.sockets > FEW

    cpdef bint read(self) except -1:
        """Read the sockets that are readable, up to a limit; whether there may be more.

        What is still readable comes up again, behind those that have waited longer.
        """
        cdef epoll_event events[READ_MAX]
        cdef int i, readable = epoll_wait(self._fd, events, READ_MAX, 0)
        if readable < 0 and errno != EINTR:
            raise OSError(errno, "epoll_wait")
        for i in range(readable):
            reader = self._readers.get(events[i].data.fd)
            if reader is not None:
                reader()
        return readable == READ_MAX

    def add(self, int fd, reader):
        """Call ``reader`` whenever ``fd`` is readable; it reads without waiting, never raises."""
        self._epoll.register(fd, select.EPOLLIN)
        self._readers[fd] = reader
        self._count()

    def remove(self, int fd, reader):
        """Leave ``fd`` alone, if ``reader`` is still what reads it; before ``fd`` is closed."""
        if self._readers.get(fd) is not reader:
            return
        del self._readers[fd]
        if not self._epoll.closed:
            self._epoll.unregister(fd)
        self._count()

    def close(self):
        """Read no more; the sockets are left as they are."""
        self._epoll.close()

    def _count(self):
        was_many, self.sockets = self.is_many(), len(self._readers)
        if was_many != self.is_many() and self.on_change is not None:
            self.on_change()


cdef class Spread:
    """A set whose members are spread evenly over the beats, each in the order it came."""

    def __init__(self):
        self._members = [{} for _ in range(BEATS_A_FRAME)]
        self._beat_of = {}

    def add(self, member):
        if member not in self._beat_of:
            beat = min(range(BEATS_A_FRAME), key=[len(x) for x in self._members].__getitem__)
            self._beat_of[member] = beat
            self._members[beat][member] = None

    def discard(self, member):
        beat = self._beat_of.pop(member, None)
        if beat is not None:
            del self._members[beat][member]


cdef class Beats:
    """Reads for ``pump`` (or None), serves who is registered, and says when to do so again."""

    def __init__(self, Pump pump):
        self.pump = pump
        if pump is not None:
            pump.on_change = self._rouse
        self._speaking, self._watched = Spread(), Spread()
        self._time_s = trio.current_time
        self._stride = BEATS_A_FRAME  # how many beats the next one is for
        self.due_s = INFINITY  # when to beat; never while there is nobody on the line

    def watch(self, call):
        """Tick ``call`` until :meth:`unwatch`."""
        self._watched.add(call)
        self._rouse()

    def unwatch(self, call):
        self._watched.discard(call)

    def wake(self, line):
        """``line`` has something to write: pump it until :meth:`rest`."""
        self._speaking.add(line)
        self._rouse()

    def rest(self, line):
        """``line`` has nothing to write for now."""
        self._speaking.discard(line)

    @property
    def speaking(self):
        """How many lines have something to write."""
        return len(self._speaking._beat_of)

    def begin(self):
        """Time counts from now on: nothing was due before."""
        self._wait_for(self._time_s())

    @property
    def reads_at_once(self):
        """Whether sockets are to be read when they are readable; else each beat reads them."""
        return self.pump is not None and not self.pump.is_many()

    cpdef bint beat(self) except -1:
        """Read what has come, then serve whom the beat is for; to be called from ``due_s`` on.

        False: there is more to read. The other tasks may have their turns, then call again.
        """
        cdef double now_s = self._time_s()
        cdef int missed, _each
        if not self._is_begun:
            self._account(now_s - self.due_s)
            self._is_begun = True
        if self.pump is not None and self.pump.is_many():
            # first: who is interrupted need not be written for
            if self.pump.read():
                return False
            now_s = self._time_s()
        self._is_begun = False
        missed = max(0, <int>((now_s - self.due_s) / BEAT_S))  # skipped, but for their lines
        for _each in range(min(self._stride + missed, BEATS_A_FRAME)):
            self._serve(now_s)
        self._wait_for(self.due_s + missed * BEAT_S)
        return True

    cdef bint _serve(self, double now_s) except -1:
        for line in list(<dict>self._speaking._members[self._beat]):
            if <double>line.due_s <= now_s:
                line.pump(now_s)
        for call in <dict>self._watched._members[self._beat]:
            call.tick(now_s)
        self._beat = (self._beat + 1) % BEATS_A_FRAME

    cdef bint _wait_for(self, double last_s) except -1:
        """Say when the next beat is due, after one at ``last_s``.

        A wake-up of a nearly idle process costs as much as reading some ten frames, so with
        few sockets two beats share one, and all of a frame where the beats read none.
        """
        cdef bint reads = self.pump is not None and self.pump.is_many()
        self._stride = BEATS_A_FRAME if not reads else 2 if self.pump.sockets < MANY else 1
        if reads or self._speaking._beat_of or self._watched._beat_of:
            self.due_s = last_s + self._stride * BEAT_S
        else:
            self.due_s = INFINITY

    def _rouse(self):
        if self.due_s == INFINITY:
            self._wait_for(self._time_s())
        self.roused()

    def roused(self):
        """There may be something to do that there was not before: for who waits."""

    cdef bint _account(self, double lateness_s) except -1:
        self.ticks += 1
        self.lag_ms = max(lateness_s * 1000, self.lag_ms * LAG_DECAY**self._stride)
        self.late_ticks += lateness_s > LATE_S
        self.worst_lateness_s = max(self.worst_lateness_s, lateness_s)
