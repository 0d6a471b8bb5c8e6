# C types for the module of this name, when it is compiled (setup.py).

cimport cython

@cython.final
cdef class Login:
    cdef readonly object name
    cdef readonly object kind
    cdef readonly object verifier
    cdef readonly object owner
    cdef readonly object valid_until
    cdef readonly bint disabled

@cython.final
cdef class Owner:
    cdef readonly object id
    cdef readonly object industry
    cdef readonly object shard
    cdef readonly Py_ssize_t epoch
    cdef readonly object agency
    cdef readonly object plan

@cython.final
cdef class Grant:
    cdef readonly object scope
    cdef readonly object value
