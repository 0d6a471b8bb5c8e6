# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.net.instant cimport read
from gateway.pool.core cimport PoolCore
from gateway.pool.counters cimport PoolCounters
from gateway.pool.fairness cimport Tenant
from gateway.pool.permits cimport Purse
from gateway.pool.server cimport ServerConnection
from gateway.pool.sharing cimport Sharer, Sharing

cdef class Waiter(Sharer):
    cpdef granted(self, ServerConnection server)

cdef class Pool:
    cdef object __weakref__
    cdef public object name
    cdef public object dsn
    cdef public object limits
    cdef public PoolCore core
    cdef public PoolCounters counters
    cdef public Py_ssize_t audit_factor
    cdef public Py_ssize_t audited_schema
    cdef public Py_ssize_t _clean_audits
    cdef public object last_error
    cdef public dict greeting
    cdef public object schema
    cdef public Sharing sharing
    cdef public dict notifiers
    cdef public object _open_connection
    cdef public object _clock
    cdef public Purse _permits
    cdef public Py_ssize_t _outside_wanted
    cdef public Py_ssize_t _total_told
    cdef public bint _none_wanted
    cdef public Py_ssize_t _failures
    cdef public bint suspended
    cdef public double _away_until
    cdef public object breaker
    cdef public double _renewed_at
    cdef public double _retry_at
    cdef public set _tasks
    cdef public dict _deadlines
    cdef public object _watch
    cdef public bint _has_hurried
    cdef public bint _looks_again
    @cython.locals(server=ServerConnection, now=cython.double)
    cpdef acquire(self, waiter, ServerConnection preferred=*, Tenant tenant=*)
    @cython.locals(now=cython.double)
    cpdef release(self, ServerConnection server)
    @cython.locals(core=PoolCore)
    cpdef _open_wanted(self)
    @cython.locals(core=PoolCore)
    cdef _pass_on(self, ServerConnection server, double now)
    cdef _served(self, ServerConnection server, tuple served, double now)
    cdef _serve_idle(self, double now)
    cdef _grant(self, ServerConnection server, Waiter waiter, double since, double now)
    cdef bint _unwanted(self, ServerConnection server, double now) except -1
