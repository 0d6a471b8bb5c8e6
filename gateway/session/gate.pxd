# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.session.unit cimport Ask, Reader, Unit

@cython.final
cdef class Stop:
    cdef public bint complete
    cdef public object objection
    cdef public Py_ssize_t size
    cdef public int tag

@cython.final
cdef class Gate:
    cdef public Py_ssize_t _admitted
    cdef public object _check
    cdef public Reader _reader
    cdef public bint closed
    cdef public Stop stop
    cpdef admit(self, Unit unit)
    @cython.locals(pos=cython.Py_ssize_t, end=cython.Py_ssize_t, admitted=cython.Py_ssize_t, tag=int, size=cython.Py_ssize_t, complete=bint, waits=bint)
    cpdef Py_ssize_t walk(self, bytes data, Py_ssize_t skip, bint copying, bint skipping=*) except -1
    cdef Stop _look(self, int tag, bytes message, Py_ssize_t size, bint complete)
