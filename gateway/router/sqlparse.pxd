# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.protocol.octets cimport replaced
from gateway.router.literals cimport constants_of

cdef dict _PLACEHOLDERS

@cython.final
cdef class Scanned:
    cdef readonly bytes _answer
    cdef readonly list marks
    cdef readonly bytes skeleton
    cdef readonly bytes text
    cpdef copies(self)

@cython.locals(marks=list)
cpdef Scanned scan(bytes text)
