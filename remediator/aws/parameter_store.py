"""Parameter Store: a bot's Telegram token, which instance may use it, tokens put aside, and images' ids."""

from pydantic import SecretStr

from remediator.aws.client import AwsClient
from remediator.aws.errors import AwsError


class ParameterStore(AwsClient):
    """The parameters of Systems Manager. Secrets are SecureStrings, and are nowhere else."""

    async def image_id(self, ami: str) -> str:
        """Return `ami` itself, or the value of the public parameter of that name."""
        if not ami.startswith("/"):
            return ami
        answer = await self._call("GetParameter", lambda: self._ssm.get_parameter(Name=ami))
        return answer["Parameter"]["Value"]

    async def put_token(self, bot: str, token: str) -> None:
        """Store the bot's Telegram token. No AwsError of this quotes the token."""
        try:
            await self._call(
                "PutParameter",
                lambda: self._ssm.put_parameter(
                    Name=token_parameter(bot), Value=token, Type="SecureString", Overwrite=True
                ),
            )
        except AwsError as error:
            # An AWS that refuses a value may quote it, and this text goes to the log and to the journal.
            message = str(error).removeprefix(f"{error.operation}: ").replace(token, "********")
            raise AwsError(error.kind, error.operation, "", message) from None

    async def pooled_token(self, template: str, number: int) -> SecretStr | None:
        """Return a token that people put aside for a bot that scaling adds; None where there is none."""
        return await self.secret(pool_parameter(template, number))

    async def secret(self, name: str) -> SecretStr | None:
        """Return the value of that parameter; None where there is none."""
        try:
            answer = await self._call(
                "GetParameter", lambda: self._ssm.get_parameter(Name=name, WithDecryption=True)
            )
        except AwsError as error:
            if error.code == "ParameterNotFound":
                return None
            raise
        return SecretStr(answer["Parameter"]["Value"])

    async def has_token(self, bot: str, since: float) -> bool:
        """Return whether the token was stored at or after `since` (Unix time; AWS keeps whole seconds)."""
        try:
            answer = await self._call(
                "GetParameter",
                lambda: self._ssm.get_parameter(Name=token_parameter(bot), WithDecryption=False),
            )
        except AwsError as error:
            if error.code == "ParameterNotFound":
                return False
            raise
        return answer["Parameter"]["LastModifiedDate"].timestamp() >= since - 1

    async def delete_token(self, bot: str) -> None:
        """Delete the token, and the name of its holder: the next bot of this name would stand by for ever."""
        for name in (token_parameter(bot), holder_parameter(bot)):
            await self._delete_parameter(name)

    async def _delete_parameter(self, name: str) -> None:
        try:
            await self._call("DeleteParameter", lambda: self._ssm.delete_parameter(Name=name))
        except AwsError as error:
            if error.code != "ParameterNotFound":
                raise

    async def give_token(self, bot: str, instance_id: str) -> None:
        """Name the one instance that may use the bot's token; see remediator.provisioning.cutover."""
        await self._call(
            "PutParameter",
            lambda: self._ssm.put_parameter(
                Name=holder_parameter(bot), Value=instance_id, Type="String", Overwrite=True
            ),
        )


def pool_parameter(template: str, number: int) -> str:
    """Return the name of the parameter of a token that was put aside."""
    return f"/pool/{template}/{number}"


def token_parameter(bot: str) -> str:
    """Return the name of the parameter of a bot's token."""
    return f"/bots/{bot}/telegram-token"


def holder_parameter(bot: str) -> str:
    """Return the name of the parameter that names the instance which may use the token."""
    return f"/bots/{bot}/active"
