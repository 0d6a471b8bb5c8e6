# C types for the module of this name, when it is compiled (setup.py).

cdef class PoolCounters:
    cdef public Py_ssize_t checkouts
    cdef public Py_ssize_t waits
    cdef public Py_ssize_t wait_us
    cdef public Py_ssize_t rides
    cdef public Py_ssize_t timeouts
    cdef public Py_ssize_t idle_transactions
    cdef public Py_ssize_t query_timeouts
    cdef public Py_ssize_t unseen_changes
    cdef public Py_ssize_t rejections
    cdef public Py_ssize_t opened
    cdef public Py_ssize_t open_failures
    cdef public Py_ssize_t lost
    cdef public Py_ssize_t cleaned
    cdef public Py_ssize_t cancels
    cpdef served(self, double waited_s)
