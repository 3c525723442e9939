#!/usr/bin/env python3
"""without_scan.py PROGRAM ARGUMENT...: runs a program as if on Linux before 6.7.

The kernel refuses it PAGEMAP_SCAN, by which the sandbox finds the pages that a function has written: Lambda's kernels do
not have it. So what they cost is measured on this machine, and not in an emulated one. For x86-64 and arm64.
"""

import ctypes
import errno
import os
import platform
import struct
import sys

IOCTL = {"x86_64": 16, "aarch64": 29}[platform.machine()]
PAGEMAP_SCAN = 0xC0606610
PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS, SECCOMP_MODE_FILTER = 22, 38, 2
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
LOAD, IS_EQUAL, RETURN = 0x20, 0x15, 0x06
# Fields of the kernel's `struct seccomp_data`: the number of the call, and its second argument.
NUMBER, SECOND = 0, 24


def main(arguments):
    instructions = [
        (LOAD, 0, 0, NUMBER),
        (IS_EQUAL, 0, 3, IOCTL),
        (LOAD, 0, 0, SECOND),
        (IS_EQUAL, 0, 1, PAGEMAP_SCAN),
        (RETURN, 0, 0, ERRNO | errno.ENOTTY),
        (RETURN, 0, 0, ALLOW),
    ]
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in instructions)
    memory = ctypes.create_string_buffer(code)
    program = ctypes.create_string_buffer(struct.pack("HxxxxxxP", len(instructions), ctypes.addressof(memory)))
    libc = ctypes.CDLL(None, use_errno=True)
    for call in ((PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), (PR_SET_SECCOMP, SECCOMP_MODE_FILTER, program, 0, 0)):
        if libc.prctl(*call) != 0:
            raise OSError(ctypes.get_errno(), "the filter of calls cannot be set")
    os.execvp(arguments[0], arguments)


if __name__ == "__main__":
    main(sys.argv[1:])
