"""`python -I -S seccomp.py ALLOWED COMMAND…`: run it with these system calls alone, as SystemCallFilter=.

ALLOWED: names with commas between. Any other call fails with EPERM. libseccomp, by ctypes; seccomp_init(3).
"""

import ctypes
import errno
import os
import sys

ALLOW = 0x7FFF0000
ERRNO = 0x00050000


def main() -> None:
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_rule_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint]
    library.seccomp_load.argtypes = [ctypes.c_void_p]
    rules = library.seccomp_init(ERRNO | errno.EPERM)
    for name in sys.argv[1].split(","):
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number >= 0:  # else it is one of another architecture, or newer than this library
            library.seccomp_rule_add(rules, ALLOW, number, 0)
    if library.seccomp_load(rules) != 0:
        sys.exit("seccomp_load failed")
    os.execv(sys.argv[2], sys.argv[2:])


main()
