"""The call for a backup of this service's state."""

import base64
import hashlib
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from remediator.api.body import read_body
from remediator.api.errors import RequestError
from remediator.api.lookup import actor_of, runtime_of
from remediator.api.operation import ANY, BINARY, Operation
from remediator.api.requests import BackupRequest
from remediator.backup.dump import take_sealed
from remediator.backup.encryption import EncryptionError, recipients
from remediator.errors import Refused
from remediator.runtime import VERSION

CHUNK: Final = 64 * 1024  # bytes


async def backup(request: Request) -> Response:
    """Send the whole state as of now, sealed for age recipients: what `bot-remediator restore` reads."""
    runtime, body = runtime_of(request), await read_body(request, BackupRequest)
    try:
        keys = recipients(body.recipients)
    except EncryptionError as error:
        remedy = "send public keys; age-keygen makes one"
        raise Refused("invalid", str(error), field="recipients", remedy=remedy) from None
    file = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by what sends it
    try:
        rows = await take_sealed(runtime.store, file, VERSION, keys)
        digest, size = await run_sync(_digest, file)
        async with runtime.store.write() as tx:
            facts: dict[str, Any] = {"recipients": body.recipients, "rows": rows, "bytes": size}
            await tx.audit("backup.taken", actor=actor_of(request, body.by), **facts)
    except BaseException as error:
        file.close()
        if isinstance(error, EncryptionError):
            remedy = "see to it that this service's temporary folder has room"
            raise RequestError(503, str(error), remedy=remedy) from None
        raise
    name = f"remediator-{datetime.now(UTC):%Y%m%dT%H%M%SZ}.age"
    headers = {
        "Content-Length": str(size),
        "Content-Disposition": f'attachment; filename="{name}"',
        "Repr-Digest": f"sha-256=:{base64.b64encode(digest).decode()}:",  # RFC 9530
    }
    return StreamingResponse(_chunks(file), media_type="application/octet-stream", headers=headers)


def _digest(file: BinaryIO) -> tuple[bytes, int]:
    """Return the SHA-256 and the size in bytes of a file just written, and go back to its beginning."""
    size = file.tell()
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    file.seek(0)
    return digest.digest(), size


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    """Yield the file's content, and close it."""
    with file:
        while chunk := file.read(CHUNK):
            yield chunk


_ANSWERS: Final[dict[int, tuple[str, Any]]] = {200: ("The backup.", BINARY), 422: ("No age recipient.", ANY)}
OPERATIONS: Final = (Operation("POST", "/backup", backup, _ANSWERS, body=BackupRequest),)
