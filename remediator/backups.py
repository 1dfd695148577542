"""The HTTP call for a backup of this service's state."""

import base64
import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, BinaryIO, Final

from anyio.to_thread import run_sync
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from remediator.backup import take_sealed
from remediator.errors import RequestError
from remediator.handlers import Handlers, actor_of
from remediator.operation import ANY, BINARY, Operation
from remediator.requests import BackupRequest, read_body
from remediator.seal import SealError, recipients
from remediator.services import VERSION

CHUNK: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Backups(Handlers):
    async def backup(self, request: Request) -> Response:
        """The whole state as of now, sealed for age recipients: what `bot-remediator restore` reads."""
        asked = await read_body(request, BackupRequest)
        try:
            to = recipients(asked.recipients)
        except SealError as error:
            raise RequestError(
                422, str(error), field="recipients", remedy="send public keys; age-keygen makes one"
            ) from None
        file = tempfile.TemporaryFile()  # noqa: SIM115 -- closed by what sends it
        try:
            rows = await take_sealed(self.services.store, file, VERSION, to)
            digest, size = await run_sync(_digest, file)
            async with self.services.store.write() as tx:
                who = asked.by or actor_of(request)
                await tx.audit("backup.taken", actor=who, recipients=asked.recipients, rows=rows, bytes=size)
        except BaseException as error:
            file.close()
            if isinstance(error, SealError):
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
    """And back to its begin."""
    size = file.tell()
    file.seek(0)
    digest = hashlib.sha256()
    while chunk := file.read(CHUNK):
        digest.update(chunk)
    file.seek(0)
    return digest.digest(), size


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(CHUNK):
            yield chunk


_SAYS: Final[dict[int, tuple[str, Any]]] = {200: ("The backup.", BINARY), 422: ("No age recipient.", ANY)}
OPERATIONS: Final = (Operation("POST", "/backup", "backup", _SAYS, body=BackupRequest),)
