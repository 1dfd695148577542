"""The memory of a process that is idle for days and busy for minutes: what it does not need goes back."""

import ctypes
import gc
from typing import Final

# malloc.h of glibc. Elsewhere there is no mallopt, and nothing to tell it.
M_TRIM_THRESHOLD: Final = -1
M_MMAP_THRESHOLD: Final = -3
M_ARENA_MAX: Final = -8


def configure_malloc() -> None:
    """Set few arenas for the many threads, and large blocks apart: else each burst leaves its peak behind."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):
        for option, value in ((M_ARENA_MAX, 2), (M_MMAP_THRESHOLD, 65536), (M_TRIM_THRESHOLD, 131072)):
            libc.mallopt(option, value)


def freeze_after_startup() -> None:
    """Keep the collector from walking, 50 ms each time, what is there once all is started: it stays."""
    gc.collect()
    gc.freeze()
    trim()


def trim() -> None:
    """Give free memory back to the system."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "malloc_trim"):
        libc.malloc_trim(0)
