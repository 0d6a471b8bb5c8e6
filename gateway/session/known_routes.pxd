# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.directory.cache cimport Kept
from gateway.router.identity cimport Login
from gateway.router.recent cimport Recent
from gateway.router.route cimport Route

@cython.final
cdef class _Decided:
    cdef Kept _grants
    cdef Kept _owner
    cdef object _snapshot
    cdef public Route route
    cpdef bint holds(self, snapshot, double now)

@cython.final
cdef class KnownRoutes:
    cdef public object _directory
    cdef public Recent _found
    @cython.locals(found=_Decided)
    cpdef Route of(self, Login login, owner_id, snapshot, double now)
