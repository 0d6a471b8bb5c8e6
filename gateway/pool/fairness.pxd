# C types for the module of this name, when it is compiled (setup.py).

cimport cython

cdef double _CREDIT_S, _FIRST_GUESS_S, _LATEST

@cython.final
cdef class Tenant:
    cdef readonly object key
    cdef readonly double weight
    cdef readonly tuple bounds
    cdef readonly bint operator
    cdef readonly object queue_timeout_s
    cdef readonly object query_timeout_s
    cdef readonly object idle_transaction_timeout_s
    cdef readonly bint hurried

cdef class Meter:
    cdef object __weakref__
    cdef public Py_ssize_t maximum
    cdef public Py_ssize_t held
    cdef public list parked
    cdef public object others
    cdef public Py_ssize_t kept
    cdef public bint chance

@cython.final
cdef class Place:
    cdef public object waiter
    cdef public Account account
    cdef public Tenant tenant
    cdef public double since

@cython.final
cdef class Account:
    cdef public object key
    cdef public double weight
    cdef public double finish
    cdef public double guess_s
    cdef public Py_ssize_t held
    cdef public tuple meters
    cdef public Meter parked_at
    cdef public double tag
    cdef public Py_ssize_t entry
    cdef public Py_ssize_t waiting
    cdef public list _line
    cdef public Py_ssize_t _first
    cdef enter(self, Place place)
    @cython.locals(line=list, place=Place)
    cdef Place first(self)
    cdef left(self, Place place)

@cython.final
cdef class Turn:
    cdef public Tenant tenant
    cdef public Account account
    cdef public tuple meters
    cdef public double guess_s
    cdef public double since

cdef class FairQueue:
    cdef public dict places
    cdef public Py_ssize_t owners_waiting
    cdef public Py_ssize_t ready
    cdef public double contended_since
    cdef public double virtual
    cdef public Meter everybody
    cdef public object others_of
    cdef public dict _accounts
    cdef public object _meters
    cdef public list _heap
    cdef public list _idle
    cdef public Py_ssize_t _entries
    cdef public double _guess_s
    cdef public dict _own_timeouts
    cdef public double _seen_s
    cdef public list _shared
    @cython.locals(account=Account, own=cython.Py_ssize_t, place=Place)
    cpdef add(self, waiter, Tenant tenant, double now, Py_ssize_t room)
    @cython.locals(account=Account)
    cdef _left(self, Place place)
    @cython.locals(account=Account)
    cpdef first(self, double now)
    @cython.locals(account=Account)
    cpdef next(self, double now)
    @cython.locals(account=Account, tag=cython.double, entry=cython.Py_ssize_t)
    cdef Account _first(self, double now)
    @cython.locals(guess_s=cython.double, place=Place)
    cdef _serve(self, Account account, double now)
    @cython.locals(account=Account)
    cpdef follow(self, waiter, double now)
    cdef _try(self, Account account, double now)
    @cython.locals(account=Account, turn=Turn, took_s=cython.double, meter=Meter)
    cpdef end(self, held, double now)
    cdef tuple _meters_of(self, Tenant tenant)
    cdef _advance(self, Account account)
    @cython.locals(account=Account, took_s=cython.double)
    cdef _charge_late(self, Tenant tenant, double since, double now)
    cdef double _paid(self, Account account) except? -1
    @cython.locals(account=Account)
    cdef Account _account(self, Tenant tenant)
    cdef _place(self, Account account)
    cdef _forget_if_idle(self, Account account)
    @cython.locals(floor=cython.double, account=Account)
    cdef _forget_idle(self)
    cdef _forget(self, Account account)
