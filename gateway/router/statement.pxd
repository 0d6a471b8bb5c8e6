# C types for the module of this name, when it is compiled (setup.py).

cimport cython

cdef Py_ssize_t _SAMPLES_MIN, _SAMPLES_MAX

@cython.final
cdef class Param:
    cdef readonly Py_ssize_t number
    cdef readonly object cast

@cython.final
cdef class ParamArray:
    cdef readonly Py_ssize_t number

@cython.final
cdef class Const:
    cdef readonly object value
    cdef readonly Py_ssize_t at

@cython.final
cdef class Opaque:
    pass

@cython.final
cdef class TenantRef:
    cdef readonly object table
    cdef readonly object column
    cdef readonly tuple sources
    cdef readonly object use
    cdef readonly bint certain
    cdef readonly bint whole
    cdef readonly bint aside

@cython.final
cdef class SettingChange:
    cdef readonly object name
    cdef readonly object values
    cdef readonly bint local
    cdef readonly bint certain

@cython.final
cdef class StatementFacts:
    cdef readonly object verb
    cdef readonly object effects
    cdef readonly frozenset reads
    cdef readonly frozenset writes
    cdef readonly bint read_only
    cdef readonly bint lock_clause
    cdef readonly frozenset functions
    cdef readonly tuple tenant
    cdef readonly object joins
    cdef readonly tuple settings
    cdef readonly object transaction
    cdef readonly object name
    cdef readonly object prepares
    cdef readonly object executes
    cdef readonly object arguments
    cdef readonly object explains

@cython.final
cdef class Timing:
    cdef public Py_ssize_t _samples
    cdef readonly object tables
    cdef public double took_s
    cpdef took(self, double seconds)
    cpdef bint shorter_than(self, double seconds)

@cython.final
cdef class Facts:
    cdef readonly tuple statements
    cdef readonly bint known
    cdef readonly object effects
    cdef readonly bint read_only
    cdef readonly bint single
    cdef readonly object first
    cdef readonly object last
    cdef readonly bint keyed
    cdef readonly bint draws
    cdef readonly bint changes_schema
    cdef readonly Timing timing
