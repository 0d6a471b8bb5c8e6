# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.protocol.octets cimport uint32

cdef unsigned int _LENGTH_MIN, _LENGTH_MAX
cdef Py_ssize_t _HEADER_BYTES

@cython.locals(length=cython.uint)
cpdef Py_ssize_t message_size(bytes data, Py_ssize_t pos) except -1

@cython.locals(size=cython.Py_ssize_t)
cpdef Py_ssize_t walk(bytes data, Py_ssize_t pos, Py_ssize_t end, bytes stops) except -1
