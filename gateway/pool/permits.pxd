# C types for the module of this name, when it is compiled (setup.py).

cdef class Purse:
    cdef public dict _used
    cdef public Py_ssize_t ceiling
    cdef public bint exhausted
    cdef public Py_ssize_t held
    cdef public Py_ssize_t lend
    cdef public Py_ssize_t share
    cdef public bint shared
