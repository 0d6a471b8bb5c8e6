# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.pool.pool cimport Pool
from gateway.router.identity cimport Login
from gateway.router.recent cimport Recent
from gateway.router.route cimport Route

@cython.final
cdef class Aim:
    cdef public object allowance
    cdef public object kind
    cdef public bint limited
    cdef public object plan
    cdef public Pool pool
    cdef public object tenant
    cdef public bint whole_session

@cython.final
cdef class Aims:
    cdef public object _budgets
    cdef public Py_ssize_t _epoch
    cdef public Recent _found
    cdef public object _modes
    cdef public object _pools
    cdef public object _snapshot
    @cython.locals(found=Aim, epoch=cython.Py_ssize_t)
    cpdef Aim of(self, Login login, Route target, snapshot, modes)
