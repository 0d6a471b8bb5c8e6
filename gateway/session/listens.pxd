# C types for the module of this name, when it is compiled (setup.py).

cdef class Listens:
    cdef object __weakref__
    cdef public object _between
    cdef public object _line
    cdef public object _listening
    cdef public bytes _marker
    cdef public object _new
    cdef public object _overflow
    cdef public object _parameters
    cdef public list _unlistens
    cdef public list _waiting
    cdef public Py_ssize_t _waiting_bytes
    cdef public object _write
    cdef public frozenset channels
    cpdef bint is_due(self) except -1
