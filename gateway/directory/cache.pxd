# C types for the module of this name, when it is compiled (setup.py).

cdef class Flushes:
    cdef public Py_ssize_t generation

cdef class Kept:
    cdef public object value
    cdef public double fresh_until
    cdef public double kept_until
    cdef public Py_ssize_t generation
    cdef Flushes _flushes
    cpdef bint is_good(self, double now)
