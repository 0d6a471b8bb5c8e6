# C types for the module of this name, when it is compiled (setup.py).

from gateway.session.reading_client cimport ReadingSession

cdef class ScatteringSession(ReadingSession):
    cdef public object _scatter
