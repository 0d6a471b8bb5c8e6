# C types for the module of this name, when it is compiled (setup.py).

cdef class End:
    cpdef data_received(self, bytes data)

cdef class Wire:
    cpdef write(self, bytes data)

cpdef End end_of(receiver)
cpdef Wire wire_of(transport)
