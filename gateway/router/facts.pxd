# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.protocol.octets cimport sample
from gateway.router.literals cimport follows
from gateway.router.recent cimport Recent
from gateway.router.sqlparse cimport Scanned, scan
from gateway.router.statement cimport Facts as _Facts  # under its own name it would not be importable from here

cdef Py_ssize_t _TEXT_BYTES_MAX, _SLOTS, _PARTS, _BYTE, _MODELS

@cython.final
cdef class _Template:
    cdef tuple _slots
    cdef readonly _Facts facts
    cdef readonly bint shared
    cpdef _Facts fill(self, bytes text, list marks)

@cython.final
cdef class _Model:
    cdef _Facts _last
    cdef bytes _last_text
    cdef list _marks
    cdef _Template _template
    cdef bytes _text
    @cython.locals(template=_Template, marks=list)
    cdef _Facts facts_of(self, bytes text)

cdef class FactsCache:
    cdef object __weakref__
    cdef public Recent _by_skeleton
    cdef public Recent _by_text
    cdef public object _columns
    cdef public object _harmless
    cdef public _Facts _last
    cdef public bytes _last_text
    cdef public list _models
    cdef public bytearray _seen
    cdef public object _unparsable
    cdef public Py_ssize_t hits
    cdef public Py_ssize_t misses
    cdef public Py_ssize_t skeleton_hits
    cdef public Py_ssize_t too_long
    cdef public Py_ssize_t unparsable
    @cython.locals(model=_Model, facts=_Facts, known=_Facts)
    cpdef facts(self, bytes text)
    @cython.locals(digest=cython.Py_ssize_t, scanned=Scanned, template=_Template, facts=_Facts)
    cdef _look(self, bytes text)
    cdef _Facts _filled(self, _Template template, Scanned scanned)
    @cython.locals(
        seen=bytearray,
        at=cython.Py_ssize_t,
        part=cython.Py_ssize_t,
        low=cython.int,
        high=cython.int,
    )
    cdef bint _is_new(self, Py_ssize_t digest) except -1
