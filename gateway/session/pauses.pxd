# C types for the module of this name, when it is compiled (setup.py).

from gateway.session.standing cimport Standing

cdef class Pauses:
    cdef public set _carried_out
    cdef public object _clock
    cdef public object _has_room
    cdef public dict _parked
    cdef public bint _releasing
    cdef public object heard
    cdef public bint known
    cdef public object refusals
    cdef public object settings
    cdef public Standing standing
    cdef public object taken
