# C types for the module of this name, when it is compiled (setup.py).

cimport cython

@cython.final
cdef class Placement:
    cdef readonly object place
    cdef readonly bint only_shared
    cdef readonly bint open
    cdef readonly frozenset tables

@cython.final
cdef class TableMap:
    cdef readonly frozenset meta
    cdef readonly frozenset shared
    cdef readonly frozenset open
    cdef readonly object views
    cdef readonly object parents
    cdef readonly dict _known
    cpdef placement(self, reads, writes, bint locks, tuple path)
