# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.protocol.octets cimport cut
from gateway.router.literals cimport constants_of

cdef dict _PLACEHOLDERS

@cython.final
cdef class Scanned:
    cdef readonly bytes _answer
    cdef readonly list marks
    cdef readonly bytes skeleton
    cdef readonly bytes text
    cpdef copies(self)

@cython.locals(
    at=cython.Py_ssize_t,
    start=cython.Py_ssize_t,
    end=cython.Py_ssize_t,
    parts=list,
)
cdef bytes _skeleton(bytes text, list marks)

@cython.locals(marks=list)
cpdef Scanned scan(bytes text)
