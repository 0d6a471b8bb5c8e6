# C types for the module of this name, when it is compiled (setup.py).

cimport cython

@cython.final
cdef class Plain:
    cdef public object _others
    cdef public Py_ssize_t _changes
    cdef public double _good_until
    cdef public double _ask_at
    cdef public bint wanted
    cpdef bint are(self, tables, Py_ssize_t changes, double now) except -1
