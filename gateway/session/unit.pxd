# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.router.statement cimport Facts
from gateway.router.values cimport Parameters

@cython.final
cdef class Ask:
    cdef public Facts facts
    cdef public bytes text
    cdef public Parameters values
    cdef public bint pending

@cython.final
cdef class Unit:
    cdef public list asks
    cdef public Py_ssize_t size
    cdef public Py_ssize_t end

@cython.final
cdef class Reader:
    cdef public object _facts
    cdef public object _parameters
    cdef public dict _parsed
    cdef public object _statement
