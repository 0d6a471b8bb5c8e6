# C types for the module of this name, when it is compiled (setup.py).

from gateway.session.client cimport ClientSession

cdef class ReadingSession(ClientSession):
    cdef public Py_ssize_t _asked_again_at
    cdef public list _marked
    cdef public object _one_unit
    cdef public object _reader
    cdef public bint _reads
    cdef public object _unit
