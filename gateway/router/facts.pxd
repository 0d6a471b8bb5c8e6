# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.router.recent cimport Recent

cdef class FactsCache:
    cdef object __weakref__
    cdef public Recent _by_skeleton
    cdef public Recent _by_text
    cdef public object _columns
    cdef public object _harmless
    cdef public list _seen
    cdef public object _unparsable
    cdef public Py_ssize_t hits
    cdef public Py_ssize_t misses
    cdef public Py_ssize_t skeleton_hits
    cdef public Py_ssize_t too_long
    cdef public Py_ssize_t unparsable
    cpdef facts(self, bytes text)
    cdef _look(self, bytes text)
    @cython.locals(slot=cython.Py_ssize_t)
    cdef bint _is_new(self, digest) except -1
