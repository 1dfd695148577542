"""A gzip stream in members: any number of them, one after the other, is a stream (RFC 1952, 2.2)."""

import zlib

_LEVEL = 1  # the text repeats itself so much that more effort saves little
_GZIP = 31  # wbits: the largest window, with gzip's header and trailer


def compress_member(text: bytes) -> bytes:
    """Compress the text to a gzip member of its own."""
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, _GZIP)
    return compressor.compress(text) + compressor.flush()


def decompress_member(member: bytes) -> bytes:
    """Return the text of one member."""
    return zlib.decompress(member, _GZIP)
