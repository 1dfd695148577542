"""Encryption of backups in age's format (https://age-encryption.org/v1): `age` opens them too.

For recipients (`age1…`), whose keys only open what is sealed, or with a passphrase. A passphrase costs scrypt
half a gigabyte for some seconds: that is left to whoever asks for the backup, never to the service.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

MAGIC: Final = b"age-encryption.org/v1\n"


class SealError(Exception):
    """A key, a passphrase or a file is wrong; says which, and what to do."""


def recipients(texts: Sequence[str]) -> list[Any]:
    """SealError naming the one that is wrong."""
    from pyrage import RecipientError, x25519  # loaded where there is something to seal or to open

    found = []
    for text in texts:
        try:
            found.append(x25519.Recipient.from_str(text.strip()))
        except RecipientError:
            raise SealError(
                f"{text[:80]!r} is no age recipient; one is age1…, as age-keygen prints it"
            ) from None
    return found


def seal(source: BinaryIO, target: BinaryIO, to: Sequence[Any]) -> None:
    """SealError where the target cannot be written."""
    from pyrage import EncryptError, encrypt_io

    try:
        encrypt_io(source, target, list(to))
    except EncryptError as error:
        raise SealError(f"the backup cannot be written: {error}") from None


def seal_with_passphrase(plain: bytes, passphrase: str) -> bytes:
    from pyrage import passphrase as with_passphrase

    sealed: bytes = with_passphrase.encrypt(plain, passphrase)
    return sealed


def has_passphrase(sealed: bytes) -> bool:
    """Whether a passphrase opens it, rather than a key. SealError where it is no age file at all."""
    if not sealed.startswith(MAGIC):
        raise SealError("it is no age file; a backup of ours is one")
    return sealed[len(MAGIC) :].startswith(b"-> scrypt ")


def opened(sealed: bytes, *, passphrase: str | None = None, identities: Sequence[Any] = ()) -> bytes:
    """What was sealed, authenticated to its last byte. SealError where it cannot be opened."""
    import pyrage

    if has_passphrase(sealed) != (passphrase is not None):
        wanted = "a passphrase" if passphrase is None else "a key"
        raise SealError(f"it was sealed with {wanted}; give that one")
    try:
        plain: bytes
        if passphrase is not None:
            plain = pyrage.passphrase.decrypt(sealed, passphrase)
        else:
            plain = pyrage.decrypt(sealed, list(identities))
    except pyrage.DecryptError as error:
        what = "passphrase" if passphrase is not None else "key"
        raise SealError(
            f"it cannot be opened: {error}; the {what} is wrong, or the file is damaged"
        ) from None
    return plain


def identities(path: Path) -> list[Any]:
    """The keys in a file as age-keygen writes it."""
    from pyrage import IdentityError, x25519

    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SealError(f"cannot read {path}: {error}") from None
    try:
        found = [x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except IdentityError:
        found = []
    if not found:
        raise SealError(f"{path} holds no age key; one is AGE-SECRET-KEY-1…, as age-keygen writes it")
    return found
