# C types for the module of this name, when it is compiled (setup.py).

from gateway.pool.server cimport Rider

cdef class Sharer(Rider):
    pass
