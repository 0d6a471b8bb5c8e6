# C types for the module of this name, when it is compiled (setup.py).

from gateway.router.facts cimport FactsCache
from gateway.session.pauses cimport Pauses
from gateway.session.aims cimport Aims
from gateway.session.known_routes cimport KnownRoutes

cdef class Counters:
    cdef public Py_ssize_t logins
    cdef public Py_ssize_t login_failures
    cdef public Py_ssize_t rejected_clients
    cdef public Py_ssize_t transactions
    cdef public Py_ssize_t bytes_from_clients
    cdef public Py_ssize_t bytes_to_clients
    cdef public Py_ssize_t errors_from_servers
    cdef public Py_ssize_t errors_of_gateway
    cdef public Py_ssize_t probes
    cdef public dict pins
    cdef public Py_ssize_t replays
    cdef public Py_ssize_t reads_repeated
    cdef public Py_ssize_t cancels
    cdef public Py_ssize_t cancels_unknown

cdef class Terms:
    cdef public Py_ssize_t audit_interval
    cdef public Py_ssize_t server_statements_max
    cdef public Py_ssize_t share_depth
    cdef public bint stamps
    cdef public bint debug

cdef class Context:
    cdef public object settings
    cdef public object snapshot
    cdef public dict modes
    cdef public object directory
    cdef public object pools
    cdef public FactsCache facts
    cdef public object statements
    cdef public object registry
    cdef public object clock
    cdef public object mock_secret
    cdef public object tables
    cdef public object parents
    cdef public object holds
    cdef public Pauses pauses
    cdef public object health
    cdef public object two_phase
    cdef public object resolver
    cdef public object sequence_readers
    cdef public Counters counters
    cdef public object budgets
    cdef public object carrier
    cdef public object unread
    cdef public Terms terms
    cdef public Aims aims
    cdef public KnownRoutes routes
    cdef public object pinned
