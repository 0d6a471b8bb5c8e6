# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.pool.core cimport PoolCore
from gateway.pool.counters cimport PoolCounters
from gateway.pool.plain cimport Plain
from gateway.pool.server cimport Rider, ServerConnection
from gateway.router.statement cimport Timing

cdef class Sharer(Rider):
    cpdef Timing carries(self, ServerConnection server)
    cpdef Timing may_ride(self, ServerConnection server)
    cpdef ride(self, ServerConnection server)

@cython.final
cdef class Sharing:
    cdef public PoolCore _core
    cdef public PoolCounters _counters
    cdef public object _release
    cdef public Py_ssize_t depth
    cdef public Plain plain
    cdef public double short_s
    @cython.locals(timing=Timing)
    cpdef begin(self, ServerConnection server, Sharer head, double now)
    @cython.locals(
        core=PoolCore,
        counters=PoolCounters,
        waiter=Sharer,
        since=cython.double,
        timing=Timing,
        room_s=cython.double,
        _=cython.Py_ssize_t,
    )
    cdef _fill(self, ServerConnection server, double now, double room_s)
    cdef bint _is_plain(self, ServerConnection server, Timing timing, double now) except -1
    cpdef pass_on(self, ServerConnection server, double now)
