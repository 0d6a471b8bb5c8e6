# C types for the module of this name, when it is compiled (setup.py).

cimport cython

@cython.final
cdef class Endpoint:
    cdef readonly object name
    cdef readonly object host
    cdef readonly Py_ssize_t port
    cdef readonly object database
    cdef readonly object role

@cython.final
cdef class Shard:
    cdef readonly object name
    cdef readonly object industry
    cdef readonly Endpoint primary
    cdef readonly object replicas

@cython.final
cdef class Industry:
    cdef readonly object name
    cdef readonly object shards
    cdef readonly object slot_map

@cython.final
cdef class Snapshot:
    cdef readonly Py_ssize_t epoch
    cdef readonly Shard meta
    cdef readonly object industries
    cdef readonly object shards
    cdef readonly object console_database
