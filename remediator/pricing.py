"""The AWS pricing API. Its threads are its own: it is asked once a day, and may take its time."""

from collections.abc import Mapping
from typing import Any, Final

import anyio.to_thread
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from remediator.awserror import named
from remediator.awsmodels import lean_session
from remediator.prices import PriceTable, from_products

HOME: Final = "us-east-1"  # it tells of every region, and is served in few
_QUESTIONS: Final[Mapping[str, tuple[str, Mapping[str, str]]]] = {
    "instance": (
        "AmazonEC2",
        {
            "operatingSystem": "Linux",
            "tenancy": "Shared",
            "preInstalledSw": "NA",
            "capacitystatus": "Used",
            "marketoption": "OnDemand",
        },
    ),
    "gp3": ("AmazonEC2", {"productFamily": "Storage", "volumeApiName": "gp3"}),
    "address": ("AmazonVPC", {"group": "VPCPublicIPv4Address"}),
    "burst": ("AmazonEC2", {"productFamily": "CPU Credits", "operatingSystem": "Linux"}),
}


class PricingError(Exception):
    """No usable answer; what was known before still holds."""


class Pricing:
    def __init__(self, endpoint_url: str | None) -> None:
        self._client = lean_session(HOME).client(
            "pricing",
            endpoint_url=endpoint_url,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=3, read_timeout=15
            ),
        )

    async def fetch(self, region: str, instance_types: list[str]) -> PriceTable:
        """The region's prices of today. Raises PricingError where an instance type's is not among them."""
        try:
            table = await anyio.to_thread.run_sync(self._fetch, region, instance_types)
        except (ClientError, BotoCoreError) as error:
            said = named("GetProducts", error)
            raise PricingError(said.told if said.kind == "denied" else str(said)) from None
        missing = [name for name in instance_types if name not in table.instance]
        if missing:
            raise PricingError(f"GetProducts gave no price of {', '.join(missing)} in {region}")
        return table

    def _fetch(self, region: str, instance_types: list[str]) -> PriceTable:
        found = {
            what: self._products(service, {**fields, "regionCode": region})
            for what, (service, fields) in _QUESTIONS.items()
            if what != "instance"
        }
        service, fields = _QUESTIONS["instance"]
        found["instance"] = [
            product
            for name in instance_types
            for product in self._products(service, {**fields, "regionCode": region, "instanceType": name})
        ]
        return from_products(region, found)

    def _products(self, service: str, fields: Mapping[str, str]) -> list[str]:
        filters: Any = [
            {"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in fields.items()
        ]
        pages = self._client.get_paginator("get_products").paginate(
            ServiceCode=service, Filters=filters, FormatVersion="aws_v1"
        )
        return [str(product) for page in pages for product in page["PriceList"]]
