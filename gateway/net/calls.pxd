# C declarations of calls.pyx, for the modules that call it.

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    cdef struct epoll_event:
        unsigned int events
        epoll_data_t data

cdef enum:
    ROOM = 256

cdef class Poll:
    cdef int _fd
    cdef int _timer
    cdef epoll_event _found[ROOM]
    cpdef int fileno(self)
    cpdef add(self, int fd, unsigned int mask)
    cpdef change(self, int fd, unsigned int mask)
    cpdef remove(self, int fd)
    cpdef bint wake_in(self, long nanoseconds) except -1
    cpdef int timer(self)
    cpdef int look(self) except -1
    cpdef int fd(self, int number)
    cpdef unsigned int mask(self, int number)
    cpdef close(self)

cpdef bytes receive(int fd, Py_ssize_t size)
cpdef Py_ssize_t send(int fd, bytes data, Py_ssize_t start) except -1
