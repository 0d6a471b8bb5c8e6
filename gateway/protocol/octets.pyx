"""Looking into bytes and cutting them: octets.py in C."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp, memcpy


cpdef bint holds(bytes data, bytes part) except -1:
    """Whether ``part``, which is not empty, stands somewhere in ``data``."""
    cdef const char *text = PyBytes_AS_STRING(data)
    cdef const char *wanted = PyBytes_AS_STRING(part)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(part)
    cdef const char *last = text + PyBytes_GET_SIZE(data) - size
    while text <= last:
        text = <const char *>memchr(text, wanted[0], last - text + 1)
        if text == NULL:
            return False
        if memcmp(text, wanted, size) == 0:
            return True
        text += 1
    return False


cpdef bytes cut(bytes data, Py_ssize_t start, Py_ssize_t end):
    """``data[start:end]``, with both inside of it and in order."""
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    if start == 0 and end == size:
        return data
    if not 0 <= start <= end <= size:
        raise ValueError("a part that is not inside")
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data) + start, end - start)


cpdef unsigned int uint32(bytes data, Py_ssize_t pos) except? 0xFFFFFFFF:
    """The number in the four bytes at ``pos``, which are inside of it, high ones first."""
    if pos < 0 or PyBytes_GET_SIZE(data) - pos < 4:
        raise ValueError("a number that is not inside")
    cdef const unsigned char *at = <const unsigned char *>PyBytes_AS_STRING(data) + pos
    return <unsigned int>at[0] << 24 | at[1] << 16 | at[2] << 8 | at[3]


cpdef Py_ssize_t sample(bytes data) except -1:
    """A number by a few bytes of the beginning, cheaper than a hash: for small tables."""
    cdef const unsigned char *text = <const unsigned char *>PyBytes_AS_STRING(data)
    cdef Py_ssize_t at = 0, end = min(42, PyBytes_GET_SIZE(data)), number = 0
    while at < end:
        number = number * 31 + text[at]
        at += 7
    return number


cpdef bint same(bytes data, Py_ssize_t pos, bytes other, Py_ssize_t other_pos, Py_ssize_t size) except -1:
    """Whether ``size`` bytes from each position on are the same; False where they aren't there."""
    if pos < 0 or other_pos < 0 or size < 0:
        raise ValueError("a part that is not inside")
    if PyBytes_GET_SIZE(data) - pos < size or PyBytes_GET_SIZE(other) - other_pos < size:
        return False
    return memcmp(PyBytes_AS_STRING(data) + pos, PyBytes_AS_STRING(other) + other_pos, size) == 0


cpdef bytes replaced(bytes data, list parts, dict instead):
    """``data`` with another text in place of each part: by its kind, which is its third item."""
    cdef Py_ssize_t at = 0, start, end, size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t made_bytes = size
    cdef bytes text
    cdef tuple part
    for part in parts:
        start, end, text = part[0], part[1], instead[part[2]]
        if not at <= start <= end <= size:
            raise ValueError("parts that are not inside, apart and in order")
        made_bytes += PyBytes_GET_SIZE(text) - (end - start)
        at = end
    cdef bytes made = PyBytes_FromStringAndSize(NULL, made_bytes)
    cdef const char *source = PyBytes_AS_STRING(data)
    cdef char *target = PyBytes_AS_STRING(made)
    at = 0
    for part in parts:
        start, end, text = part[0], part[1], instead[part[2]]
        memcpy(target, source + at, start - at)
        target += start - at
        memcpy(target, PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
        target += PyBytes_GET_SIZE(text)
        at = end
    memcpy(target, source + at, size - at)
    return made


cpdef Py_ssize_t string_end(bytes data, Py_ssize_t pos) except -2:
    """Where the NUL stands that ends the string at ``pos``; -1 if none does."""
    cdef const char *text = PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    if pos >= size:
        return -1
    cdef const char *found = <const char *>memchr(text + pos, 0, size - pos)
    return -1 if found == NULL else found - text


cpdef bytes with_name(
    bytes message, Py_ssize_t length, Py_ssize_t start, Py_ssize_t end, bytes name
):
    """A message with ``name`` in place of ``message[start:end]``."""
    cdef const char *before = PyBytes_AS_STRING(message)
    cdef Py_ssize_t all_bytes = PyBytes_GET_SIZE(message), name_bytes = PyBytes_GET_SIZE(name)
    if not 5 <= start <= end <= all_bytes:
        raise ValueError("a name outside of its message")
    cdef bytes made = PyBytes_FromStringAndSize(NULL, all_bytes - (end - start) + name_bytes)
    cdef char *after = PyBytes_AS_STRING(made)
    cdef unsigned int size = length - 1 + name_bytes - (end - start)
    memcpy(after, before, start)
    after[1], after[2] = <char>(size >> 24), <char>(size >> 16)
    after[3], after[4] = <char>(size >> 8), <char>size
    memcpy(after + start, PyBytes_AS_STRING(name), name_bytes)
    memcpy(after + start + name_bytes, before + end, all_bytes - end)
    return made
