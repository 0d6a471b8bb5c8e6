# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.protocol.octets cimport holds
from gateway.router.demand cimport Demand, Keying, demand_of
from gateway.router.statement cimport Facts, StatementFacts
from gateway.session.unit cimport Ask

@cython.final
cdef class Demands:
    cdef public object _context
    cdef public object _holdings
    cdef public Keying _keying
    cdef public object _path
    cdef public object _prepared
    cdef public object _routing
    cdef public object _settings
    cdef public object path_here
    @cython.locals(keying=Keying, total=Demand, ask=Ask)
    cpdef together(self, asks)
    cpdef keying(self)
    @cython.locals(total=Demand, statement=StatementFacts)
    cpdef _of(self, Ask ask, Keying keying)
    cpdef _of_statement(self, StatementFacts statement, Ask ask, Keying keying)

cdef Demand _both(Demand one, Demand other)
cpdef bint has_comment(bytes text) except -1
cpdef said_in(bytes text)
