# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.net.ends cimport End, Wire, wire_of
from gateway.pool.prepared cimport Prepared, Schema, Unnamed
from gateway.protocol.framing cimport message_size, walk
from gateway.protocol.octets cimport cut, same
from gateway.protocol.replies cimport Expected, Replies
from gateway.router.statement cimport Timing

cdef int _A, _C, _D, _E, _N, _R, _S, _Z, _IDLE, _DESCRIBE
cdef Py_ssize_t _HEADER_BYTES, _READY_BYTES, _WHOLE_MAX_BYTES
cdef bytes _ANSWERS, _STOPS, _STALE
cdef tuple _OBSERVERS
cdef frozenset _FORGET

cdef class LinkedClient(End):
    cpdef forward(self, bytes data)
    cpdef server_ready(self, int status)

cdef class Rider(LinkedClient):
    cpdef turn_came(self, ServerConnection server)

@cython.final
cdef class ServerConnection(End):
    cdef object __weakref__
    cdef public bytes _held
    cdef public object _owner_lost
    cdef public bint _paused
    cdef public Py_ssize_t _skip
    cdef public bint _skip_silent
    cdef public Wire _wire
    cdef public Py_ssize_t cancels
    cdef public LinkedClient client
    cdef public object client_number
    cdef public bint closing
    cdef public bint drew
    cdef public bint holds_ready
    cdef public bytes last_command
    cdef public object last_error
    cdef public list line
    cdef public double life_ends_at
    cdef public bint lost
    cdef public double opened_at
    cdef public object parameters
    cdef public object pid
    cdef public bint pinned
    cdef public Prepared prepared
    cdef public bint ready_held
    cdef public Replies replies
    cdef public Schema schema
    cdef public object secret
    cdef public object sequences_of
    cdef public object settings
    cdef public bint spoke
    cdef public dict sql_prepared
    cdef public object stamp
    cdef public int status
    cdef public bint tainted
    cdef public object transport
    cdef public double timed_out_s
    cdef public Timing timing
    cdef public double turn_at
    cdef public bint turn_is_over
    cdef public Py_ssize_t turns
    cdef public Py_ssize_t audited_at
    cdef public Unnamed unnamed
    cdef public double used_at
    cpdef link(self, LinkedClient client, number)
    @cython.locals(rider=Rider)
    cpdef next_in_line(self)
    cpdef unlink(self)
    cpdef pause_reading(self)
    cpdef resume_reading(self)
    cpdef write(self, bytes data)
    @cython.locals(
        end=cython.Py_ssize_t,
        pos=cython.Py_ssize_t,
        start=cython.Py_ssize_t,
        following=cython.Py_ssize_t,
        tag=cython.int,
        head=Expected,
        silent=cython.bint,
    )
    cpdef _scan(self, bytes data)
    cpdef _forward(self, bytes data, Py_ssize_t start, Py_ssize_t end)
    @cython.locals(kind=cython.int)
    cpdef _observe(self, int tag, bytes data, Py_ssize_t pos, Py_ssize_t following)
    cpdef _on_ready(self, int tag, bytes body)
    cpdef _on_command_end(self, int tag, bytes body)
    @cython.locals(last=bytes, size=cython.Py_ssize_t)
    cdef bint _is_last_command(self, bytes data, Py_ssize_t pos, Py_ssize_t following) except -1
    cdef bint _is_described(self) except -1
    cdef bint _is_clients_error(self, Expected head, int tag) except -1
    cpdef _turn_over(self)
    cpdef _ready(self)
