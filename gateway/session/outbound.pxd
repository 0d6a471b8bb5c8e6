# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.pool.server cimport ServerConnection
from gateway.protocol.framing cimport message_size
from gateway.session.holdings cimport Holdings
from gateway.session.translate cimport Translator

cdef Py_ssize_t _HEADER_BYTES, _SHORT_BYTES
cdef int _COPY_DATA
cdef tuple _HANDLERS

@cython.final
cdef class Outbound:
    cdef dict __dict__  # for what is not declared here
    cdef public bint _await_executes
    cdef public int _draws_alone
    cdef public object _facts
    cdef public Holdings _holdings
    cdef public object _listens
    cdef public object _number
    cdef public object _on_answer
    cdef public object _on_facts
    cdef public object _on_foreign_sequences
    cdef public object _restore
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
        changed=list,
    )
    cpdef bytes book(self, ServerConnection server, bytes data)
    cpdef all_answered(self)
    cpdef _facts_of(self, ServerConnection server, bytes text)
