# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.protocol.framing cimport message_size

cdef Py_ssize_t _HEADER_BYTES, _UNIT_MAX_BYTES
cdef int _SYNC, _TERMINATE
cdef bytes _ONE_MESSAGE, _EXTENDED, _MEANINGLESS, _ENDS_UNIT, _MAY_COPY
cdef object _MORE, _SERVER

@cython.final
cdef class Inbox:
    cdef dict __dict__  # for what is not declared here
    cdef public bytes data
    cdef public bint skipping_to_sync
    cdef public Py_ssize_t _skip
    cpdef next(self)
    cpdef _look(self, int tag, Py_ssize_t size)
    @cython.locals(
        data=bytes,
        pos=cython.Py_ssize_t,
        end=cython.Py_ssize_t,
        size=cython.Py_ssize_t,
        tag=cython.int,
    )
    cdef bint _unit_complete(self) except -1
