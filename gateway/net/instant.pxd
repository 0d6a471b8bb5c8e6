# C declarations of instant.pyx, for the modules that call it.

cpdef double read(clock) except? -1
