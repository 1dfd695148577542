"""Telegram tokens that people put aside, at /pool/TEMPLATE/N, for the bots that scaling may add."""

from dataclasses import dataclass

from pydantic import SecretStr

from remediator.aws.aws import Aws
from remediator.aws.errors import AwsError
from remediator.aws.parameter_store import pool_parameter
from remediator.errors import Refused
from remediator.provisioning.deploy import DeploySpec
from remediator.store.store import Store


@dataclass(frozen=True, slots=True)
class TokenPool:
    """The bot TEMPLATE-N is deployed with the token at /pool/TEMPLATE/N."""

    store: Store
    aws: Aws

    async def next_bot(self, template: str, environment: str, largest: int) -> DeploySpec | Refused:
        """Return what a new bot is to be deployed with; or, as a value, why there is nothing.

        `largest`: of the template's groups, the most bots that one may have.
        """
        try:
            number, token = await self._free_token(template, largest)
            return DeploySpec(f"{template}-{number}", template, environment, token)
        except Refused as refused:
            return refused
        except (AwsError, ValueError) as error:
            return Refused("unavailable", str(error))

    async def _free_token(self, template: str, largest: int) -> tuple[int, SecretStr]:
        """Return the first of the pool that no bot has. Raise Refused (conflict) where there is none."""
        async with self.store.read() as tx:
            taken = {bot.name for bot in await tx.bots()}
        for number in range(1, 3 * largest + 1):  # one a bot that there may be, in each environment
            if f"{template}-{number}" not in taken:
                token = await self.aws.pooled_token(template, number)
                if token is not None:
                    return number, token
        raise Refused(
            "conflict",
            f"no Telegram token is left at {pool_parameter(template, 1)} and on",
            remedy="put one there for each bot that may be added, as a SecureString",
        )
