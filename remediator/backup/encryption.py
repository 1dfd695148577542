"""Encryption of backups in age's format (https://age-encryption.org/v1): `age` opens them too.

For recipients (`age1…`), whose keys alone open what is encrypted, or with a passphrase. A passphrase costs
scrypt half a gigabyte for some seconds: that is left to the client that asks for the backup, never to the
service.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

MAGIC: Final = b"age-encryption.org/v1\n"


class EncryptionError(Exception):
    """A key, a passphrase or a file is wrong; says which, and what to do."""


def recipients(texts: Sequence[str]) -> list[Any]:
    """Return the recipients. Raise EncryptionError, which names the one that is wrong."""
    from pyrage import RecipientError, x25519  # loaded where there is something to seal or to open

    keys = []
    for text in texts:
        try:
            keys.append(x25519.Recipient.from_str(text.strip()))
        except RecipientError:
            raise EncryptionError(
                f"{text[:80]!r} is no age recipient; one is age1…, as age-keygen prints it"
            ) from None
    return keys


def encrypt(source: BinaryIO, target: BinaryIO, to: Sequence[Any]) -> None:
    """Encrypt for the recipients. Raise EncryptionError where the target cannot be written."""
    from pyrage import EncryptError, encrypt_io

    try:
        encrypt_io(source, target, list(to))
    except EncryptError as error:
        raise EncryptionError(f"the backup cannot be written: {error}") from None


def encrypt_with_passphrase(plain: bytes, passphrase: str) -> bytes:
    from pyrage import passphrase as with_passphrase

    encrypted: bytes = with_passphrase.encrypt(plain, passphrase)
    return encrypted


def has_passphrase(encrypted: bytes) -> bool:
    """Return whether a passphrase opens it, not a key. Raise EncryptionError where it is no age file."""
    if not encrypted.startswith(MAGIC):
        raise EncryptionError("it is no age file; a backup of ours is one")
    return encrypted[len(MAGIC) :].startswith(b"-> scrypt ")


def decrypt(encrypted: bytes, *, passphrase: str | None = None, identities: Sequence[Any] = ()) -> bytes:
    """Return the plain text, authenticated to its last byte. Raise EncryptionError where it cannot be had."""
    import pyrage

    if has_passphrase(encrypted) != (passphrase is not None):
        wanted = "a passphrase" if passphrase is None else "a key"
        raise EncryptionError(f"it was sealed with {wanted}; give that one")
    try:
        plain: bytes
        if passphrase is not None:
            plain = pyrage.passphrase.decrypt(encrypted, passphrase)
        else:
            plain = pyrage.decrypt(encrypted, list(identities))
    except pyrage.DecryptError as error:
        what = "passphrase" if passphrase is not None else "key"
        raise EncryptionError(
            f"it cannot be opened: {error}; the {what} is wrong, or the file is damaged"
        ) from None
    return plain


def identities(path: Path) -> list[Any]:
    """Return the keys in a file as age-keygen writes it. Raise EncryptionError where there are none."""
    from pyrage import IdentityError, x25519

    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise EncryptionError(f"cannot read {path}: {error}") from None
    try:
        keys = [x25519.Identity.from_str(line) for line in lines if line and not line.startswith("#")]
    except IdentityError:
        keys = []
    if not keys:
        raise EncryptionError(f"{path} holds no age key; one is AGE-SECRET-KEY-1…, as age-keygen writes it")
    return keys
