# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.router.identity cimport Owner
from gateway.router.topology cimport Endpoint, Industry, Shard, Snapshot

@cython.final
cdef class Asked:
    cdef readonly object database
    cdef readonly object owner
    cdef readonly object industry
    cdef readonly object role

@cython.final
cdef class Route:
    cdef public Shard shard
    cdef public Endpoint endpoint
    cdef public object reason
    cdef public object owner
    cdef public Py_ssize_t epoch
    cdef public object plan

@cython.locals(industry=Industry)
cpdef home_of(Snapshot snapshot, Owner owner)
