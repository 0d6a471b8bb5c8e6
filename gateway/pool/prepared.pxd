# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.protocol.replies cimport Expected, Replies
from gateway.router.statement cimport Facts as _Facts  # under its own name it would not be importable from here

@cython.final
cdef class Statement:
    cdef dict __dict__  # for what is not declared here
    cdef object __weakref__
    cdef public bytes body
    cdef public bint deallocates
    cdef public dict described
    cdef public object executes
    cdef public _Facts facts
    cdef public Py_ssize_t generation
    cdef public bint lists_prepared
    cdef public bytes name
    cdef public Statement needs
    cdef public object scope
    cdef public Statement stands_for

@cython.final
cdef class Change(Expected):
    cdef public Replies _owed
    cdef public Statement statement
    cdef public bint skipped
    cdef to(self, int kind, Statement statement, Replies owed)

@cython.locals(change=Change)
cpdef Change change_to(int kind, Statement statement, Replies owed)

@cython.final
cdef class Unnamed:
    cdef dict __dict__  # for what is not declared here
    cdef public Statement _settled
    cdef public list _changes
    cpdef become(self, Statement statement)
    @cython.locals(changes=list, last=Change)
    cpdef Statement now(self)
    cdef Statement _before(self)
    cpdef change(self, Change change, bint alone)

cdef class Statements:
    cdef object __weakref__
    cdef public object _facts
    cdef public dict _shared
    cdef public object _numbers
    cdef public Py_ssize_t generation
    cdef public Py_ssize_t kept_bytes
    @cython.locals(of_scope=dict, statement=Statement)
    cpdef Statement get(self, bytes body, tuple scope)

cdef class Schema:
    cdef public Py_ssize_t changes
    cpdef tuple scope(self, tuple scope)

@cython.final
cdef class Prepared:
    cdef dict __dict__  # for what is not declared here
    cdef public object _known
    cdef public dict _pending
    cdef public Py_ssize_t batch
    cpdef bint has(self, Statement statement)
    cpdef sync_sent(self)
    cpdef all_answered(self)
