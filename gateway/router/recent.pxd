# C types for the module of this name, when it is compiled (setup.py).

cimport cython

@cython.final
cdef class _Entry:
    cdef public object value
    cdef public Py_ssize_t size
    cdef public bint used

@cython.final
cdef class Recent:
    cdef public dict _entries
    cdef public Py_ssize_t _entries_max
    cdef public object _order
    cdef public Py_ssize_t _size_max
    cdef public Py_ssize_t size
    @cython.locals(found=_Entry)
    cpdef get(self, key)
