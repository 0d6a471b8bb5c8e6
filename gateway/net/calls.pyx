"""The system calls of the gateway's own socket loop, by the C library: calls.py in C.

The interpreter's lock is kept: no call waits for anything.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.exc cimport PyErr_SetFromErrno
from libc.errno cimport EAGAIN, EINTR, errno
from posix.unistd cimport close as close_fd

cdef extern from "<sys/epoll.h>" nogil:
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLL_CLOEXEC
        EPOLL_CTL_ADD
        EPOLL_CTL_DEL
        EPOLL_CTL_MOD
    unsigned int EPOLLET
    unsigned int EPOLLRDHUP
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int maxevents, int timeout)

cdef extern from "<time.h>" nogil:
    enum:
        CLOCK_MONOTONIC
    struct timespec:
        long tv_sec
        long tv_nsec
    struct itimerspec:
        timespec it_interval
        timespec it_value

cdef extern from "<sys/timerfd.h>" nogil:
    enum:
        TFD_NONBLOCK
        TFD_CLOEXEC
    int timerfd_create(int clock, int flags)
    int timerfd_settime(int fd, int flags, const itimerspec *new_value, itimerspec *old_value)

cdef extern from "<sys/socket.h>" nogil:
    enum:
        MSG_NOSIGNAL
    Py_ssize_t recv_ "recv"(int fd, void *buffer, size_t size, int flags)
    Py_ssize_t send_ "send"(int fd, const void *data, size_t size, int flags)

COMPILED = True
READABLE, WRITABLE = EPOLLIN, EPOLLOUT
EVENTS_MAX = ROOM

cdef enum:
    BUFFER_BYTES = 262144

cdef char received[BUFFER_BYTES]
"""Where every read goes first: to receive into new bytes of the full size would cost far more."""


cdef class Poll:

    def __cinit__(self):
        self._timer = -1
        self._fd = epoll_create1(EPOLL_CLOEXEC)
        if self._fd < 0:
            PyErr_SetFromErrno(OSError)

    def __dealloc__(self):
        self.close()

    cpdef int fileno(self):
        return self._fd

    cpdef add(self, int fd, unsigned int mask):
        control(self._fd, EPOLL_CTL_ADD, fd, mask)

    cpdef change(self, int fd, unsigned int mask):
        control(self._fd, EPOLL_CTL_MOD, fd, mask)

    cpdef remove(self, int fd):
        control(self._fd, EPOLL_CTL_DEL, fd, 0)

    cpdef bint wake_in(self, long nanoseconds) except -1:
        cdef itimerspec after
        if self._timer < 0:
            self._timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC)
            if self._timer < 0:
                return False
            control(self._fd, EPOLL_CTL_ADD, self._timer, EPOLLIN)
        after.it_interval.tv_sec = after.it_interval.tv_nsec = after.it_value.tv_sec = 0
        after.it_value.tv_nsec = nanoseconds
        return timerfd_settime(self._timer, 0, &after, NULL) == 0

    cpdef int timer(self):
        return self._timer

    cpdef int look(self) except -1:
        cdef int count
        while True:
            count = epoll_wait(self._fd, self._found, ROOM, 0)
            if count >= 0:
                return count
            if errno != EINTR:
                PyErr_SetFromErrno(OSError)

    cpdef int fd(self, int number):
        return self._found[number].data.fd

    cpdef unsigned int mask(self, int number):
        return self._found[number].events

    cpdef close(self):
        if self._timer >= 0:
            close_fd(self._timer)
            self._timer = -1
        if self._fd >= 0:
            close_fd(self._fd)
            self._fd = -1


cdef int control(int epoll, int what, int fd, unsigned int mask) except -1:
    cdef epoll_event event
    event.events = mask | EPOLLET | EPOLLRDHUP
    event.data.fd = fd
    if epoll_ctl(epoll, what, fd, &event) < 0:
        PyErr_SetFromErrno(OSError)
    return 0


cpdef bytes receive(int fd, Py_ssize_t size):
    cdef Py_ssize_t count
    while True:
        count = recv_(fd, received, size if size < BUFFER_BYTES else BUFFER_BYTES, 0)
        if count >= 0:
            return PyBytes_FromStringAndSize(received, count)
        if errno == EAGAIN:
            return None
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)


cpdef Py_ssize_t send(int fd, bytes data, Py_ssize_t start) except -1:
    cdef char *unsent = PyBytes_AS_STRING(data) + start
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data) - start
    cdef Py_ssize_t count
    while True:
        count = send_(fd, unsent, size, MSG_NOSIGNAL)
        if count >= 0:
            return count
        if errno == EAGAIN:
            return 0
        if errno != EINTR:
            PyErr_SetFromErrno(OSError)
