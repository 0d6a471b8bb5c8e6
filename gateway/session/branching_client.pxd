# C types for the module of this name, when it is compiled (setup.py).

from gateway.session.branched_roaming cimport BranchedRoaming
from gateway.session.gate cimport Stop
from gateway.session.roaming_client cimport RoamingSession

cdef int _IDLE_STATUS, _FAILED_STATUS

cdef class BranchingSession(RoamingSession):
    cdef public bint _cleared
    cdef public Stop _joining
    cdef public list _parked
    cdef public bint _settling
    cdef public BranchedRoaming _way
