# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.router.demand cimport Demand, ParentKey
from gateway.router.identity cimport Grant, Login, Owner
from gateway.router.route cimport Route, home_of
from gateway.router.topology cimport Shard, Snapshot

@cython.final
cdef class Said:
    cdef readonly object owner
    cdef readonly object industry
    cdef readonly object role
    cdef readonly object source
    cdef readonly bint scatter
    cdef readonly object column

@cython.locals(keys=frozenset)
cpdef route_demand(
    Snapshot snapshot, Login login, Said said, Demand demand, known, Shard last, mismatch=*
)
@cython.locals(route=Route)
cdef object _there(outcome, Said said)
cdef object _meta(Snapshot snapshot, Login login, Demand demand, frozenset keys, known)
@cython.locals(grant=Grant, owner=Owner)
cdef object _not_granted(Login login, owner_id, known)
@cython.locals(owner=Owner, shard=Shard)
cdef object _of_owner(Snapshot snapshot, Login login, owner_id, source, known)
cdef object _of_owners(Snapshot snapshot, Login login, frozenset ids, source, known)
