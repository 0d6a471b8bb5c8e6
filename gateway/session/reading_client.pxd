# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.pool.server cimport ServerConnection
from gateway.router.route cimport Route
from gateway.router.topology cimport Shard
from gateway.session.client cimport ClientSession
from gateway.session.gate cimport Gate
from gateway.session.unit cimport Reader, Unit

cdef int _IDLE_STATUS

cdef class ReadingSession(ClientSession):
    cdef public Py_ssize_t _asked_again_at
    cdef public bint _has_replicas
    cdef public bint _held
    cdef public bint _is_operator
    cdef public list _marked
    cdef public Gate _one_unit
    cdef public Reader _reader
    cdef public bint _reads
    cdef public Shard _shard
    cdef public object _shard_in
    cdef public object _stamp
    cdef public Route _stamp_of
    cdef public Unit _unit
    @cython.locals(shard=Shard)
    cpdef bint _splits_reads(self, Route target) except -1
