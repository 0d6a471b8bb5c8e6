# C types for the module of this name, when it is compiled (setup.py).

cimport cython

cdef int _QUERY, _EXECUTE, _END_OF_COPY, _SYNTHETIC, _LAST_READY
cdef Py_ssize_t _ANSWERED_MAX

cdef class Expected:
    cdef public int kind
    cdef public bint silent
    cdef public bint unheard
    cdef public object on_message
    cdef public object on_failed
    cdef public object on_turn
    cdef public bytes reply
    cdef public object renamed
    cdef public bytes error

    cdef be_plain(self, int kind)
    cpdef fail(self)

@cython.final
cdef class Replies:
    cdef public Py_ssize_t _answered
    cdef public list _queue
    cdef public bint _skipping
    cdef public bint copy_in
    cdef public bint doubtful
    cdef public Expected head
    cdef public bint skipped
    cdef public bint sync_due
    cdef public bint synthetic_due

    cpdef bint is_idle(self)
    cpdef bint swallows_sync(self) except -1
    cpdef bint reads_copy(self) except -1
    cpdef bint copies_by_execute(self) except -1
    cpdef expect(self, Expected entry)
    @cython.locals(awaited=cython.int)
    cpdef on_reply(self, int kind)
    cpdef on_command_end(self)
    cpdef on_ready(self)
    cpdef on_error(self)
    cdef _pop(self)
    cdef _drop(self)
    cdef list _behind(self)
