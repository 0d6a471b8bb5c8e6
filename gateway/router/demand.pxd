# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.router.statement cimport Param, StatementFacts, TenantRef
from gateway.router.tables cimport Placement, TableMap
from gateway.router.values cimport Parameters

@cython.final
cdef class Keying:
    cdef readonly object key_type
    cdef readonly TableMap tables
    cdef readonly tuple path
    cdef readonly bint trust_assigned

@cython.final
cdef class ParentKey:
    cdef readonly object table
    cdef readonly object column
    cdef readonly object value

@cython.final
cdef class Demand:
    cdef public object place
    cdef public frozenset owners
    cdef public frozenset parents
    cdef public bint keyed
    cdef public bint opaque
    cdef public bint whole
    cdef public bint pending
    cdef public bint at_home
    cdef public bint only_shared
    cdef public bint loose
    cdef public frozenset tables

@cython.locals(chosen=Demand, demand=Demand, found=Placement, held=bint)
cpdef demand_of(StatementFacts statement, Keying keying, Parameters values, bint pending=*)

@cython.locals(ref=TenantRef, keyed=bint, whole=bint, holds=bint, untold=bint)
cdef tuple _keys(tuple refs, Keying keying, Parameters values)

cdef bint _tells(use, bint null, Keying keying) except -1
cdef object _parent(TenantRef ref, Keying keying)
cdef tuple _read(tuple sources, Keying keying, Parameters values)
cpdef tuple _of_param(Param source, Keying keying, Parameters values)
