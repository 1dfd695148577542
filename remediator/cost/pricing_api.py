"""The AWS pricing API. Its threads are its own: it is asked once a day, and may take its time."""

from collections.abc import Mapping
from typing import Any, Final

import anyio.to_thread
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from remediator.aws.botocore_models import lean_session
from remediator.aws.errors import from_botocore
from remediator.cost.price_table import PriceTable, from_products

HOME: Final = "us-east-1"  # it has every region's prices, and is served in few regions
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
    """A client of the AWS pricing API."""

    def __init__(self, endpoint_url: str | None) -> None:
        self._client = lean_session(HOME).client(
            "pricing",
            endpoint_url=endpoint_url,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 3}, connect_timeout=3, read_timeout=15
            ),
        )

    async def fetch(self, region: str, instance_types: list[str]) -> PriceTable:
        """Return the region's prices of today.

        Raises PricingError where there is no answer, or no instance type's price is in it. A region lacks
        some types, which then have no price.
        """
        try:
            table = await anyio.to_thread.run_sync(self._fetch, region, instance_types)
        except (ClientError, BotoCoreError) as error:
            fault = from_botocore("GetProducts", error)
            raise PricingError(fault.with_remedy if fault.kind == "denied" else str(fault)) from None
        if not table.instance:
            raise PricingError(f"GetProducts gave no price of {', '.join(instance_types)} in {region}")
        return table

    def _fetch(self, region: str, instance_types: list[str]) -> PriceTable:
        products = {
            what: self._products(service, {**fields, "regionCode": region})
            for what, (service, fields) in _QUESTIONS.items()
            if what != "instance"
        }
        service, fields = _QUESTIONS["instance"]
        products["instance"] = [
            product
            for name in instance_types
            for product in self._products(service, {**fields, "regionCode": region, "instanceType": name})
        ]
        return from_products(region, products)

    def _products(self, service: str, fields: Mapping[str, str]) -> list[str]:
        filters: Any = [
            {"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in fields.items()
        ]
        pages = self._client.get_paginator("get_products").paginate(
            ServiceCode=service, Filters=filters, FormatVersion="aws_v1"
        )
        return [str(product) for page in pages for product in page["PriceList"]]
