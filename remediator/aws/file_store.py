"""Where the archives of bots' files are kept, each under its SHA-256: put once, never changed or deleted.

That is the S3 bucket of the setting FILES_BUCKET (BUCKET or BUCKET/PREFIX), and without one Parameter Store,
which holds small ones. An archive that was put into Parameter Store is found there when a bucket is named
later.
"""

import base64
import hashlib
from typing import Any, Final

from remediator.aws.client import AwsClient
from remediator.aws.errors import AwsError

STANDARD: Final = 4096  # characters of a parameter that costs nothing
PARAMETER_LIMIT: Final = 8192 // 4 * 3  # bytes of an archive, of which an advanced parameter has the Base64
THERE: Final = ("PreconditionFailed", "ParameterAlreadyExists")
ABSENT: Final = ("NoSuchKey", "ParameterNotFound")


def files_address(bucket: str, sha256: str) -> str:
    """Return where an archive is, as an instance is told: `s3://BUCKET/KEY`, or a parameter's name."""
    return f"s3://{bucket}/{sha256}.tar.gz" if bucket else f"/files/{sha256}"


class FileStore(AwsClient):
    """The archives of bots' files, by hash."""

    async def put_files(self, sha256: str, archive: bytes) -> None:
        """Put the archive where it is to be kept; one that is there already stays as it is."""
        address = files_address(self._files_bucket, sha256)
        try:
            if self._files_bucket:
                where: Any = _object(address)
                await self._call(
                    "PutObject", lambda: self._s3.put_object(**where, Body=archive, IfNoneMatch="*")
                )
                return
            value = base64.b64encode(archive).decode()
            tier: Any = "Standard" if len(value) <= STANDARD else "Advanced"
            await self._call(
                "PutParameter",
                lambda: self._ssm.put_parameter(Name=address, Value=value, Type="String", Tier=tier),
            )
        except AwsError as error:
            if error.code not in THERE:
                raise

    async def files(self, sha256: str) -> bytes | None:
        """Return the archive; None where it is nowhere. AwsError also where it is not what its name says."""
        archive = await self._from_bucket(sha256) if self._files_bucket else None
        if archive is None:
            archive = await self._from_parameter(sha256)
        if archive is not None and hashlib.sha256(archive).hexdigest() != sha256:
            raise AwsError("refused", "GetObject", "", f"the files kept as {sha256} are others")
        return archive

    async def _from_bucket(self, sha256: str) -> bytes | None:
        where: Any = _object(files_address(self._files_bucket, sha256))
        try:
            return await self._call("GetObject", lambda: bytes(self._s3.get_object(**where)["Body"].read()))
        except AwsError as error:
            if error.code not in ABSENT:
                raise
            return None

    async def _from_parameter(self, sha256: str) -> bytes | None:
        name = files_address("", sha256)
        try:
            answer = await self._call("GetParameter", lambda: self._ssm.get_parameter(Name=name))
        except AwsError as error:
            if error.code not in ABSENT:
                raise
            return None
        return base64.b64decode(answer["Parameter"]["Value"])


def _object(address: str) -> dict[str, str]:
    bucket, _, key = address.removeprefix("s3://").partition("/")
    return {"Bucket": bucket, "Key": key}
