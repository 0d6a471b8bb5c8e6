# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.net.calls cimport Poll, receive, send
from gateway.net.ends cimport End, Wire, end_of

cdef int _READS_PER_TURN, _LOOKS_PER_TURN, _BUSY, _READABLE, _WRITABLE, _BYTES
cdef int _PIECES, _PIECES_AGAIN
cdef long _TICK_NS
cdef Py_ssize_t _PIECE_BYTES, _MUCH_BYTES
cdef Py_ssize_t _READ_BYTES, _READ_MUCH_BYTES, _GATHER_MAX_BYTES, _HIGH_BYTES

@cython.final
cdef class Sockets:
    cdef list _by_fd
    cdef bint _closed
    cdef Py_ssize_t _count
    cdef object _loop
    cdef list _paced
    cdef Poll _poll
    cdef SocketTransport _unsent
    cdef public bint busy
    cpdef watch(self, SocketTransport transport, int mask)
    cpdef forget(self, SocketTransport transport)
    cpdef bint pace(self, SocketTransport transport) except -1
    @cython.locals(paced=list, transport=SocketTransport)
    cpdef _tick(self)
    cpdef send_later(self, SocketTransport transport)
    @cython.locals(
        poll=Poll,
        count=cython.int,
        number=cython.int,
        fd=cython.int,
        _=cython.int,
        transport=SocketTransport,
    )
    cpdef _turn(self)
    @cython.locals(transport=SocketTransport)
    cpdef _send(self)

@cython.final
cdef class SocketTransport(Wire):
    cdef object __weakref__
    cdef bint _blocked
    cdef bint _closing
    cdef End _end
    cdef bint _ended
    cdef bint _full
    cdef Py_ssize_t _high
    cdef bint _later
    cdef object _loop
    cdef list _more
    cdef bytes _out
    cdef bint _paced
    cdef int _pieces
    cdef bint _read_paused
    cdef object _receiver
    cdef bint _sender_paused
    cdef Py_ssize_t _sent
    cdef object _sock
    cdef Sockets _sockets
    cdef Py_ssize_t _unsent
    cdef bint _write_ended
    cdef public int fd
    cdef public SocketTransport next_unsent
    cdef public int watched
    @cython.locals(taken=cython.Py_ssize_t)
    cpdef serve(self, int mask)
    cdef _read_by_the_clock(self)
    cpdef bint serve_paced(self) except -1
    @cython.locals(count=cython.Py_ssize_t)
    cpdef send_now(self)
    cpdef _join(self)
    cpdef _after_sending(self)
    cpdef _pause_sender(self)
    @cython.locals(
        size=cython.Py_ssize_t,
        count=cython.Py_ssize_t,
        taken=cython.Py_ssize_t,
        data=bytes,
        _=cython.int,
    )
    cpdef Py_ssize_t _read(self, int mask) except -1
    @cython.locals(mask=cython.int)
    cpdef _watch(self)
    cpdef _finish(self, error)
