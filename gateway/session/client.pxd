# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.directory.cache cimport Kept
from gateway.net.instant cimport read
from gateway.net.ends cimport Wire, wire_of
from gateway.pool.pool cimport Pool, Waiter
from gateway.pool.fairness cimport Tenant
from gateway.pool.server cimport ServerConnection
from gateway.router.statement cimport Timing
from gateway.router.route cimport Route
from gateway.session.aims cimport Aim
from gateway.session.context cimport Context, Terms
from gateway.session.gate cimport Gate
from gateway.session.holdings cimport Holdings
from gateway.session.inbox cimport Inbox
from gateway.session.listens cimport Listens
from gateway.session.outbound cimport Outbound

cdef object _IDLE, _SEEKING, _LINKED, _CLOSED, _MORE, _SERVER, _READY, _END
cdef int _IDLE_STATUS
cdef Py_ssize_t _UNIT_MAX_BYTES

@cython.final
cdef class _Routed:
    cdef object _snapshot
    cdef Kept _owner
    cdef public Route route
    cpdef bint holds(self, snapshot, double now)

cdef class ClientSession(Waiter):
    cdef object __weakref__
    cdef public object _allowance
    cdef public Context _context
    cdef public object _departing
    cdef public object _draining
    cdef public bint _fatal_seen
    cdef public bint _first_unit
    cdef public Gate _gate
    cdef public Inbox _inbox
    cdef public bint _in_line
    cdef public Timing _timing
    cdef public bint _replayed_there
    cdef public bint _input_held
    cdef public bytes _kept
    cdef public bint _limited
    cdef public Outbound _outbound
    cdef public Pool _pool
    cdef public ServerConnection _preferred
    cdef public bint _read_paused
    cdef public bint _ready_missed
    cdef public object _refused_epoch
    cdef public int _renewals
    cdef public object _idle_timer
    cdef public _Routed _routed
    cdef public bint _server_full
    cdef public Route _target
    cdef public object _target_in
    cdef public object _task
    cdef public Tenant _tenant
    cdef public object _transport
    cdef public Py_ssize_t _turns_before
    cdef public bint _whole_session
    cdef public Wire _wire
    cdef public bint _write_paused
    cdef public double active_at
    cdef public object application
    cdef public object asked
    cdef public double connected_at
    cdef public Holdings holdings
    cdef public Route last_route
    cdef public Listens listens
    cdef public object login
    cdef public object number
    cdef public object parameters
    cdef public object peer
    cdef public object phase
    cdef public object secret
    cdef public ServerConnection server
    cdef public Py_ssize_t transactions

    @cython.locals(inbox=Inbox)
    cpdef data_received(self, bytes data)
    cpdef _go_on(self)
    @cython.locals(waiting=cython.bint, full=cython.bint)
    cpdef _pace(self)
    cdef bint _shares(self) except -1
    cpdef _before_link(self)
    cpdef _begin(self)
    cpdef bint _answer_here(self) except -1
    @cython.locals(context=Context, routed=_Routed, now=cython.double)
    cpdef _seek(self)
    @cython.locals(server=ServerConnection)
    cpdef _acquire(self, Route target)
    @cython.locals(aim=Aim, context=Context)
    cdef _aim(self, Route target)
    @cython.locals(outbound=Outbound, pool=Pool, terms=Terms)
    cpdef granted(self, ServerConnection server)
    cpdef _begin_there(self, ServerConnection server)
    cdef _look_again(self, ServerConnection server)
    cpdef Timing _lone_read(self, ServerConnection server, bytes data)
    cdef bint _is_at_home(self, ServerConnection server) except -1
    @cython.locals(outbound=Outbound)
    cpdef Timing carries(self, ServerConnection server)
    @cython.locals(pool=Pool, holdings=Holdings, timing=Timing)
    cpdef Timing may_ride(self, ServerConnection server)
    cpdef ride(self, ServerConnection server)
    cpdef turn_came(self, ServerConnection server)
    @cython.locals(server=ServerConnection, outbound=Outbound, inbox=Inbox)
    cpdef _relay(self)
    cdef bytes _hold_back(self, Gate gate)
    cdef bytes _book_part(self, ServerConnection server, bytes waiting)
    cpdef forward(self, bytes data)
    @cython.locals(server=ServerConnection, outbound=Outbound, pool=Pool, holdings=Holdings)
    cpdef server_ready(self, int status)
    cpdef _transaction_over(self, ServerConnection server)
    @cython.locals(interval=cython.Py_ssize_t, pool=Pool)
    cdef bint _audit_due(self, ServerConnection server) except -1
    cpdef _let_go(self)
    @cython.locals(server=ServerConnection, pool=Pool, holdings=Holdings)
    cpdef _part(self)
