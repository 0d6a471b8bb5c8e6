# C declarations of octets.pyx, for the modules that call it.

cpdef bint holds(bytes data, bytes part) except -1
cpdef bytes cut(bytes data, Py_ssize_t start, Py_ssize_t end)
cpdef unsigned int uint32(bytes data, Py_ssize_t pos) except? 0xFFFFFFFF
cpdef Py_ssize_t sample(bytes data) except -1
cpdef bint same(bytes data, Py_ssize_t pos, bytes other, Py_ssize_t other_pos, Py_ssize_t size) except -1
cpdef bytes replaced(bytes data, list parts, dict instead)
cpdef Py_ssize_t string_end(bytes data, Py_ssize_t pos) except -2
cpdef bytes with_name(bytes message, Py_ssize_t length, Py_ssize_t start, Py_ssize_t end, bytes name)
