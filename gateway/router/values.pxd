# C types for the module of this name, when it is compiled (setup.py).

cimport cython

cdef object _INTEGERS
cdef int _BINARY
cdef unsigned int _NULL, _SIZE_MAX

@cython.final
cdef class Parameters:
    cdef public Py_ssize_t _at
    cdef public bint _complete
    cdef public Py_ssize_t _count
    cdef public list _formats
    cdef public list _found
    cdef public bytes _message
    cdef public bytes _parsed
    @cython.locals(raw=bytes)
    cpdef one(self, key_type, Py_ssize_t number, cast=*)
    @cython.locals(formats=list)
    cdef int _format(self, Py_ssize_t number) except -1
    @cython.locals(parsed=bytes, at=cython.Py_ssize_t, count=cython.Py_ssize_t)
    cdef unsigned int _type(self, Py_ssize_t number) except? 0
    cdef bytes _raw(self, Py_ssize_t number)
    @cython.locals(message=bytes, at=cython.Py_ssize_t, end=cython.Py_ssize_t, each=cython.Py_ssize_t)
    cdef _read_head(self)
    @cython.locals(message=bytes, at=cython.Py_ssize_t, size="unsigned int")
    cdef bytes _next(self)

cdef unsigned int _uint16(bytes data, Py_ssize_t at) except? 0
cdef unsigned int _uint32(bytes data, Py_ssize_t at) except? 0
cpdef str _decoded(bytes raw)
cdef str _meant(key_type, str text)
cpdef str _integer(str text)
