# C types for the module of this name, when it is compiled (setup.py).

from gateway.session.roaming cimport Roaming

cdef class BranchedRoaming(Roaming):
    cdef public tuple parked
    cdef public bint wrote
    cdef public object _why_not
    cdef public list _untold
    cpdef answered(self, bint failed)
