"""User data as EC2 hands it out and takes it: bytes that are gzipped, or text. Pure."""

import base64
import gzip
import zlib
from typing import Final

GZIP: Final = b"\x1f\x8b"


def unpack(content: bytes) -> str:
    """Return user data as text, gzipped or not: what is no UTF-8 is replaced, broken gzip is empty."""
    if content.startswith(GZIP):
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error):
            return ""
    return content.decode(errors="replace")


def decode_user_data(value: str) -> bytes:
    """Return the user data of a launch request: Base64, or of an earlier release the text itself."""
    return value.encode() if value.startswith("#") else base64.b64decode(value)
