# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.router.demand cimport Demand
from gateway.router.identity cimport Login, Owner
from gateway.router.roaming cimport Said
from gateway.router.route cimport Route
from gateway.router.statement cimport Facts, StatementFacts
from gateway.router.topology cimport Shard
from gateway.session.context cimport Context
from gateway.session.demands cimport Demands
from gateway.session.holdings cimport Holdings
from gateway.session.unit cimport Ask, Unit

cdef object _INDUSTRY, _NO_EFFECTS, _SELECT

@cython.final
cdef class Peek:
    cdef public Context _context
    cdef public Login _login
    cdef public tuple _grants
    cdef public dict _owners
    cdef public dict _parents
    cpdef Owner owner(self, owner_id)
    cpdef forget(self)

cdef class Roaming:
    cdef public Context _context
    cdef public Login _login
    cdef public Said _startup
    cdef public Holdings _holdings
    cdef public object _settings
    cdef public Said _session
    cdef public Demands _demands
    cdef public Peek peek
    cdef public list begun
    cdef public bint local
    cdef public bint failed
    cdef public bint soft
    cdef public Shard bound
    cdef public Shard last
    cdef public object owner
    cdef public frozenset keys
    cdef public frozenset inside
    cdef public object role
    cdef public list _savepoints
    cdef public dict _marks
    cdef public set _written
    cdef public bint _sets
    cdef public Py_ssize_t _front
    cdef public bint front_sets
    cdef public bint _matches_nothing
    cdef public bint _idle_pin
    cdef public Said _said_here
    @cython.locals(ask=Ask, statement=StatementFacts, simple=bint, alone=bint)
    cpdef answer(self, Unit unit)
    cpdef route(self, list asks)
    @cython.locals(ask=Ask)
    cpdef linked(self, Route target, list asks)
    cpdef unlinked(self)
    @cython.locals(wanted=Demand, said=Said, bound=Shard)
    cpdef check(self, Ask ask)
    cdef bint _runs_anywhere(self, Ask ask, Demand wanted) except -1
    cpdef end(self)
    @cython.locals(context=Context)
    cdef object _route(self, Said said, Demand wanted)
    cdef object _decide(self, Said said, Demand wanted)
    @cython.locals(ask=Ask, here=Said, said=Said, found=Said)
    cpdef Said _said(self, list asks)
    cdef _follow_settings(self)
    @cython.locals(statement=StatementFacts, only_reads=bint)
    cpdef _note(self, Ask ask)
    cdef bint _harmless(self, StatementFacts statement) except -1

@cython.locals(route=Route)
cdef frozenset _owners_of(outcome, Demand wanted)
cdef bint _matches_nothing(outcome) except -1
cdef object _lone_owner(Said said, Demand wanted)
