# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.pool.prepared cimport Change, Prepared, Statement, Statements, Unnamed, change_to
from gateway.pool.server cimport ServerConnection
from gateway.protocol.octets cimport cut, same, string_end, with_name
from gateway.protocol.replies cimport Expected
from gateway.router.statement cimport Facts as _Facts  # under its own name it would not be importable from here

cdef Py_ssize_t _HEADER_BYTES, _DESCRIBE_UNNAMED_BYTES
cdef int _FAILED, _PARSE, _STATEMENT
cdef bytes _UNKNOWN_NAME
cdef Expected _ALONE, _BOUND, _DESCRIBED, _STALE_BIND, _STALE_DESCRIBE

cdef class Heeder:
    cpdef bytes heed(self, ServerConnection server, _Facts facts, bytes text)
    cpdef bint sees_alone(self) except -1

@cython.final
cdef class Translator:
    cdef dict __dict__  # for what is not declared here
    cdef public dict _alone
    cdef public dict _binds
    cdef public Statement _bound
    cdef public dict _changing
    cdef public dict _executions
    cdef public Heeder _heeder
    cdef public object _maximum
    cdef public dict _named
    cdef public Statements _shared
    cdef public Unnamed _unnamed
    cdef public bint keyed
    cdef public Statement undescribed
    cpdef all_answered(self)
    @cython.locals(statement=Statement)
    cpdef Statement at_hand(self, ServerConnection server, bytes name)
    cpdef Expected query(self, ServerConnection server)
    @cython.locals(
        statement=Statement,
        at=cython.Py_ssize_t,
        end=cython.Py_ssize_t,
        name=bytes,
        before=bytes,
        real=bytes,
    )
    cpdef bytes bind(self, ServerConnection server, bytes message, Py_ssize_t length)
    @cython.locals(before=bytes)
    cdef bytes _heed_use(self, ServerConnection server, Statement statement)
    cpdef bytes describe_unnamed(self, ServerConnection server)
    cpdef describe_bound(self, ServerConnection server)
    cdef Expected _describe_of(self, ServerConnection server, Statement statement)
    cpdef tuple _resolve(self, ServerConnection server, bytes name, Statement statement)
    @cython.locals(known=tuple)
    cpdef Expected _bind_of(self, bytes name, bytes real)
    @cython.locals(statement=Statement)
    cpdef describe(self, ServerConnection server, bytes message)
    @cython.locals(
        statement=Statement,
        parsed=Statement,
        known=Statement,
        end=cython.Py_ssize_t,
        name=bytes,
        before=bytes,
    )
    cpdef bytes parse(self, ServerConnection server, bytes message, tuple scope)
    @cython.locals(last=Statement, size=cython.Py_ssize_t)
    cdef Statement _said_again(self, bytes message, Py_ssize_t at, tuple scope)
    cdef _parse_unnamed(self, ServerConnection server, Statement statement)
    @cython.locals(change=Change)
    cdef Change _replace_unnamed(self, ServerConnection server, int kind, Statement statement)
    @cython.locals(statement=Statement)
    cdef tuple _resolve_unnamed(self, ServerConnection server)

@cython.locals(change=Change)
cdef Change _change_unnamed(ServerConnection server, int kind, Statement statement)
cdef _expect_silently(ServerConnection server, Change change)
