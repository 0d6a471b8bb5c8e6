# C types for the module of this name, when it is compiled (setup.py).

cdef class Standing:
    cdef public dict _orders
    cdef public set disabled
    cdef public set drained
    cdef public dict pauses
