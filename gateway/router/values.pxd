# C types for the module of this name, when it is compiled (setup.py).

cimport cython

@cython.final
cdef class Parameters:
    cdef public Py_ssize_t _at
    cdef public bint _complete
    cdef public Py_ssize_t _count
    cdef public tuple _formats
    cdef public list _found
    cdef public bytes _message
    cdef public object _types
    cpdef one(self, key_type, Py_ssize_t number, cast=*)
    cpdef _format(self, Py_ssize_t number)
    cpdef _type(self, Py_ssize_t number)
    cpdef bytes _raw(self, Py_ssize_t number)
    @cython.locals(message=bytes, at=cython.Py_ssize_t, size=cython.Py_ssize_t)
    cpdef bytes _next(self)

cpdef str _decoded(bytes raw)
