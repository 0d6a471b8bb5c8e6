# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.pool.prepared cimport Statement
from gateway.protocol.octets cimport cut, string_end
from gateway.protocol.framing cimport message_size
from gateway.router.facts cimport FactsCache
from gateway.router.statement cimport Facts
from gateway.router.values cimport Parameters

cdef int _BIND
cdef object _NO_EFFECTS

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
    cdef public int end
    cdef public bint ends_ready

@cython.final
cdef class Reader:
    cdef public object _facts
    cdef public object _parameters
    cdef public dict _parsed
    cdef public object _statement
    @cython.locals(unit=Unit, pos=cython.Py_ssize_t, end=cython.Py_ssize_t, size=cython.Py_ssize_t, tag=int, complete=bint)
    cpdef Unit unit(self, bytes data)
    cpdef begin(self)
    cpdef Ask ask(self, int tag, bytes message, bint complete)
    @cython.locals(portal_end=cython.Py_ssize_t, name_end=cython.Py_ssize_t, name=bytes, parsed=tuple, statement=Statement)
    cdef Ask _bind(self, bytes message, bint complete)

cpdef Ask read_bind(bytes message, Py_ssize_t at, Facts facts, bytes body, bint complete)
