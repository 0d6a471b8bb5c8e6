# C types for the module of this name, when it is compiled (setup.py).

cimport cython

from gateway.protocol.octets cimport same

cdef int _STRANGE, _PLAIN, _WORD, _DIGIT, _QUOTE, _NAME, _DOLLAR, _COMMENT
cdef int _POINT, _AMPERSAND, _ZERO, _SIGN, _SPACE, _BACKSLASH, _MINUS, _SLASH, _STAR
cdef Py_ssize_t _SURE_DIGITS
cdef bytes _KINDS, _INTEGER, _LARGE, _STRING

@cython.locals(at=cython.Py_ssize_t, end=cython.Py_ssize_t, past=cython.Py_ssize_t, kind=cython.int)
cpdef list constants_of(bytes text)

@cython.locals(
    at=cython.Py_ssize_t,
    behind=cython.Py_ssize_t,
    end=cython.Py_ssize_t,
    size=cython.Py_ssize_t,
    start=cython.Py_ssize_t,
    past=cython.Py_ssize_t,
    begin=cython.Py_ssize_t,
    kind=bytes,
)
cpdef bint follows(bytes text, bytes model, list marks, list found) except -1

@cython.locals(past=cython.Py_ssize_t)
cdef Py_ssize_t _past_constant(bytes text, Py_ssize_t at, Py_ssize_t end, bint is_string) except -2

@cython.locals(kind=cython.int)
cdef Py_ssize_t _past_word(bytes text, Py_ssize_t at, Py_ssize_t end) except -2

@cython.locals(past=cython.Py_ssize_t, before=cython.int, kind=cython.int)
cdef Py_ssize_t _past_number(bytes text, Py_ssize_t at, Py_ssize_t end) except -2

@cython.locals(behind=cython.int)
cdef bint _stands_alone(bytes text, Py_ssize_t at, Py_ssize_t end) except -1

@cython.locals(past=cython.Py_ssize_t)
cdef Py_ssize_t _past_name(bytes text, Py_ssize_t at, Py_ssize_t end) except -2

@cython.locals(past=cython.Py_ssize_t, after=cython.Py_ssize_t)
cdef Py_ssize_t _past_string(bytes text, Py_ssize_t at, Py_ssize_t end) except -2

@cython.locals(before=cython.int, kind=cython.int)
cdef bint _touches(bytes text, Py_ssize_t at) except -1
