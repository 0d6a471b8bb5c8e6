# C types for the module of this name, when it is compiled (setup.py).

cimport cython

@cython.final
cdef class Expected:
    cdef dict __dict__  # for what is not declared here
    cdef public int kind
    cdef public bint silent
    cdef public object on_message
    cdef public object on_failed
    cdef public object on_turn
    cdef public bytes reply
    cdef public object renamed
    cdef public bytes error

    cpdef fail(self)

@cython.final
cdef class Replies:
    cdef dict __dict__  # for what is not declared here
    cdef public object _queue
    cdef public bint _skipping
    cdef public bint copy_in
    cdef public bint doubtful
    cdef public bint skipped
    cdef public bint sync_due
    cdef public bint synthetic_due

    cpdef expect(self, Expected entry)
    cpdef on_reply(self, int kind)
    cpdef on_command_end(self)
    cpdef on_ready(self)
    cdef _pop(self)
