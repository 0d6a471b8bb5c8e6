# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.pool.prepared cimport Statement
from gateway.pool.server cimport ServerConnection
from gateway.protocol.framing cimport message_size
from gateway.protocol.octets cimport cut, holds, same, string_end
from gateway.protocol.replies cimport Expected
from gateway.router.facts cimport FactsCache
from gateway.router.statement cimport Facts as _Facts, Timing
from gateway.session.holdings cimport Holdings
from gateway.session.listens cimport Listens
from gateway.session.translate cimport Heeder, Translator

cdef Py_ssize_t _HEADER_BYTES, _SHORT_BYTES
cdef int _COPY_DATA, _BIND, _DESCRIBE, _EXECUTE, _PARSE, _PORTAL, _QUERY, _STATEMENT, _SYNC
cdef bytes _LISTS_PREPARED, _DESCRIBED_ENDING
cdef Py_ssize_t _ENDING_BYTES, _DESCRIBED_ENDING_BYTES
cdef object _NO_EFFECT
cdef Expected _EXPECT_EXECUTE, _EXPECT_SYNC
cdef tuple _HANDLERS

@cython.final
cdef class Outbound(Heeder):
    cdef dict __dict__  # for what is not declared here
    cdef public bint _await_executes
    cdef public int _draws_alone
    cdef public FactsCache _facts
    cdef public Holdings _holdings
    cdef public Listens _listens
    cdef public object _number
    cdef public object _on_alone
    cdef public object _on_answer
    cdef public object _on_facts
    cdef public object _on_foreign_sequences
    cdef public tuple _restore
    cdef public object guard
    cdef public bytes last_statement
    cdef public bytes preamble
    cdef public bint renewable
    cdef public bytes rest
    cdef public bint sent
    cdef public Py_ssize_t skip
    cdef public object stamp
    cdef public bint sync_due
    cdef public bint terminated
    cdef public Translator translator
    cdef public bint waiting
    @cython.locals(
        end=cython.Py_ssize_t,
        done=cython.Py_ssize_t,
        pos=cython.Py_ssize_t,
        size=cython.Py_ssize_t,
        following=cython.Py_ssize_t,
        tag=cython.int,
        changed=list,
        ended=cython.bint,
        part=cython.bint,
    )
    cpdef bytes book(self, ServerConnection server, bytes data)
    cpdef Timing lone_read(self, ServerConnection server, bytes data)
    @cython.locals(
        timing=Timing,
        parsed=cython.bint,
        bound=cython.bint,
        pos=cython.Py_ssize_t,
        end=cython.Py_ssize_t,
        tag=cython.int,
        following=cython.Py_ssize_t,
        at=cython.Py_ssize_t,
        text_end=cython.Py_ssize_t,
        name_at=cython.Py_ssize_t,
        name_end=cython.Py_ssize_t,
        name=bytes,
    )
    cdef Timing _lone_bind(self, ServerConnection server, bytes data)
    @cython.locals(facts=_Facts)
    cdef Timing _timing_of(self, Statement statement)
    @cython.locals(facts=_Facts)
    cdef Timing _timing(self, ServerConnection server, bytes text)
    cpdef all_answered(self)
    @cython.locals(message=bytes)
    cdef bytes _booked(
        self,
        ServerConnection server,
        int tag,
        bytes data,
        Py_ssize_t pos,
        Py_ssize_t following,
        Py_ssize_t size,
    )
    @cython.locals(rest=cython.Py_ssize_t, start=cython.Py_ssize_t)
    cpdef bint _ends_plainly(
        self, ServerConnection server, bytes data, Py_ssize_t pos, Py_ssize_t end
    ) except -1
    cdef _end_failed_batch(self, ServerConnection server)
    cdef bint _lacks(self, ServerConnection server) except -1
    @cython.locals(facts=_Facts)
    cpdef bytes _query(self, ServerConnection server, bytes message, Py_ssize_t size)
    cpdef bytes _parse(self, ServerConnection server, bytes message, Py_ssize_t size)
    cpdef bytes _bind(self, ServerConnection server, bytes message, Py_ssize_t size)
    cpdef bytes _describe(self, ServerConnection server, bytes message, Py_ssize_t size)
    cpdef bytes _execute(self, ServerConnection server, bytes message, Py_ssize_t size)
    cpdef bytes _sync(self, ServerConnection server, bytes message, Py_ssize_t size)
    cpdef _facts_of(self, ServerConnection server, bytes text)
    @cython.locals(stamp=bytes, before=bytes, quiet=cython.bint)
    cdef bytes _heeded(self, ServerConnection server, _Facts facts, bytes text)
