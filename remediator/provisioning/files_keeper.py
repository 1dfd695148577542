"""Sees to it that the files of a configuration are kept before anything needs them."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.file_store import PARAMETER_LIMIT
from remediator.settings import Settings
from templates import TemplateError, Templates, unpacked


@dataclass(frozen=True, slots=True)
class FilesKeeper:
    """The archives of the templates as they are now, and of every version's, wherever they are kept.

    None is ever deleted: any version may be rolled back to.
    """

    aws: Aws
    archives: Mapping[str, bytes]  # of the templates, by SHA-256
    _kept: set[str] = field(default_factory=set)

    async def keep(self, sha256: str | None) -> None:
        """Have the archive kept; AwsError where that cannot be, of the kind `gone` where nobody has it."""
        if sha256 is None or sha256 in self._kept:
            return
        archive = await self._archive(sha256)
        if archive is None:
            message = (
                f"the files {sha256} are not kept any more; change the bot's configuration to have others"
            )
            raise AwsError("gone", "GetObject", "", message)
        await self.aws.put_files(sha256, archive)
        self._kept.add(sha256)

    async def contents(self, sha256: str | None) -> dict[str, bytes]:
        """Return the files of an archive, by path; none where it is not to be had. AwsError."""
        if sha256 is None:
            return {}
        archive = await self._archive(sha256)
        return unpacked(archive) if archive is not None else {}

    async def _archive(self, sha256: str) -> bytes | None:
        """Return an archive of today's templates, or of what is kept; None where nobody has it."""
        own = self.archives.get(sha256)
        return own if own is not None else await self.aws.files(sha256)


def check_sizes(templates: Templates, settings: Settings) -> None:
    """Raise TemplateError where a type's files are too large for where they would be kept."""
    for name in templates.names:
        files = templates.get(name, "production").files
        size = len(templates.archives[files.sha256]) if files is not None else 0
        if size > PARAMETER_LIMIT and not settings.files_bucket:
            raise TemplateError(
                f"{name}/",
                "",
                f"its files have {size} bytes packed, and Parameter Store holds {PARAMETER_LIMIT}; make them"
                " smaller, or name a bucket in BOT_REMEDIATOR_FILES_BUCKET",
            )
