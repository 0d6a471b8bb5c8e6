# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.pool.fairness cimport FairQueue, Tenant, Turn

cdef class PoolCore:
    cdef public dict _busy
    cdef public dict _cleaning
    cdef public dict _closing
    cdef public dict _held
    cdef public list _idle
    cdef public Py_ssize_t _maximum
    cdef public Py_ssize_t _reserve
    cdef public dict _rides
    cdef public FairQueue fair
    cdef public Py_ssize_t minimum
    cdef public Py_ssize_t opening
    cdef public Py_ssize_t outside
    cdef public Py_ssize_t queue_max
    cdef public bint retired
    cdef Py_ssize_t _living(self) except? -1
    cpdef Py_ssize_t over(self) except? -1
    cpdef Py_ssize_t counted(self) except? -1
    cpdef bint full(self) except -1
    cpdef checkout(self, preferred=*, Tenant tenant=*, double now=*)
    cpdef enqueue(self, waiter, double now, Tenant tenant=*)
    cpdef settle(self, server, state, double now=*)
    cpdef tuple serve_idle(self, double now)
    cpdef release(self, server, double now=*)
    cpdef bint crowded(self) except -1
    cpdef first(self, double now)
    @cython.locals(since=cython.double, rides=list)
    cpdef double ride(self, server, waiter, double now) except? -1
    @cython.locals(rides=list, turn=Turn)
    cpdef pass_on(self, server, double now)
    cdef tuple _serve(self, server, double now)
    cdef _end(self, held, double now)
