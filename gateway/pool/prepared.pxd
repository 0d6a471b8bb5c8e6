# C types for the module of this name, when it is compiled (setup.py).

cdef class Statement:
    cdef object __weakref__
    cdef public bytes body
    cdef public object described
    cdef public object executes
    cdef public object facts
    cdef public bint lists_prepared
    cdef public bytes name
    cdef public Statement needs
    cdef public Statement stands_for

cdef class Change:
    cdef public Statement statement
    cdef public bint skipped

cdef class Unnamed:
    cdef public Statement _settled
    cdef public list _changes
    
    cpdef become(self, Statement statement)

cdef class Prepared:
    cdef public object _known
    cdef public dict _pending
    cdef public Py_ssize_t batch
    cpdef bint has(self, Statement statement)
    cpdef sync_sent(self)
    cpdef all_answered(self)
