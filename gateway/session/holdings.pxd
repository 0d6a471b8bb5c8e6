# C types for the module of this name, when it is compiled (setup.py).

cimport cython

@cython.final
cdef class Holdings:
    cdef dict __dict__  # for what is not declared here
    cdef public object _clock
    cdef public object _deallocated
    cdef public object _facts
    cdef public object _pinned
    cdef public tuple _said
    cdef public object _touched
    cdef public object effects
    cdef public double idle_limit_s
    cdef public dict pins
    cdef public bint reads_sequences
    cdef public bint schema_changed
    cdef public object scope
    cdef public object settings
    cdef public dict sql_described
    cdef public dict sql_prepared
    cdef public object startup
    cdef public bint unseen
