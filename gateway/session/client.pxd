# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.pool.server cimport ServerConnection
from gateway.session.holdings cimport Holdings
from gateway.session.inbox cimport Inbox
from gateway.session.outbound cimport Outbound

cdef class ClientSession:
    cdef dict __dict__  # for what is not declared here
    cdef object __weakref__
    cdef public object _allowance
    cdef public object _allowed_for
    cdef public object _context
    cdef public object _draining
    cdef public bint _fatal_seen
    cdef public bint _first_unit
    cdef public object _gate
    cdef public Inbox _inbox
    cdef public bint _in_line
    cdef public object _timing
    cdef public double _turn_at
    cdef public bint _input_held
    cdef public bytes _kept
    cdef public Outbound _outbound
    cdef public object _pool
    cdef public ServerConnection _preferred
    cdef public bint _read_paused
    cdef public bint _ready_missed
    cdef public object _refused_epoch
    cdef public object _routed
    cdef public bint _server_full
    cdef public object _task
    cdef public object _transport
    cdef public Py_ssize_t _turns_before
    cdef public bint _write_paused
    cdef public double active_at
    cdef public object application
    cdef public object asked
    cdef public double connected_at
    cdef public Holdings holdings
    cdef public object last_route
    cdef public object listens
    cdef public object login
    cdef public object number
    cdef public object parameters
    cdef public object peer
    cdef public object phase
    cdef public object secret
    cdef public ServerConnection server
    cdef public Py_ssize_t transactions

    @cython.locals(inbox=Inbox)
    cpdef data_received(self, data)
    cpdef _go_on(self)
    cpdef _pace(self)
    cpdef _begin(self)
    @cython.locals(server=ServerConnection, outbound=Outbound)
    cpdef _relay(self)
    cpdef forward(self, bytes data)
    cpdef _transaction_over(self, ServerConnection server)
    @cython.locals(server=ServerConnection)
    cpdef _part(self)
