# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.pool.server cimport ServerConnection
from gateway.session.gate cimport Gate
from gateway.session.roaming cimport Roaming
from gateway.session.scattering_client cimport ScatteringSession

cdef object _IDLE, _SEEKING
cdef int _IDLE_STATUS, _FAILED_STATUS

cdef class RoamingSession(ScatteringSession):
    cdef public Gate _check_gate
    cdef public object _give_up
    cdef public Roaming _roaming
    @cython.locals(roaming=Roaming, server=ServerConnection)
    cpdef _check(self, ask)
