"""What differs between an instance and what was declared, and what that takes."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

import templates
from remediator.aws.instance_attributes import METADATA_OPTIONS, InstanceDescription
from remediator.configuration.drift import (
    Declared,
    Difference,
    compare,
    declared,
    fingerprint,
    fingerprint_of_base64,
)
from remediator.configuration.drift_detector import with_since
from remediator.configuration.rendering import render
from remediator.model import Bot
from remediator.provisioning.cloudinit import user_data
from remediator.settings import read_settings

SETTINGS = read_settings(security_group_ids=["sg-2", "sg-1"], instance_profile="bot")
MANAGED = "bot-orchestrator:managed"


def bot() -> Bot:
    config, sha = render("forge", "production", templates.load().get("support", "production"))
    facts: dict[str, Any] = dict.fromkeys(Bot.__slots__, "")
    return Bot(**facts | {"name": "forge", "instance_id": "i-1", "config": config, "config_sha": sha})


TAGS = {
    "Name": "bot-forge",
    MANAGED: "true",
    "bot-orchestrator:bot": "forge",
    "bot-orchestrator:deployment": "dep-1",
    "bot-orchestrator:config-sha": bot().config_sha,
    "bot-orchestrator:role": "active",
}


def launch(**changes: Any) -> dict[str, Any]:
    """Make the fields of RunInstances' request that are read again.

    That the launcher writes them so, the tests over a cloud prove.
    """
    tags = {key: value for key, value in TAGS.items() if key != "bot-orchestrator:role"}
    tagged = [{"Key": key, "Value": value} for key, value in tags.items()]
    request = {"InstanceType": "t3.micro", "UserData": "#cloud-config", "MetadataOptions": METADATA_OPTIONS}
    return {**request, "TagSpecifications": [{"ResourceType": "instance", "Tags": tagged}], **changes}


DECLARED = declared(bot(), launch(), SETTINGS)
REAL = InstanceDescription(
    id="i-1",
    state="running",
    instance_type="t3.micro",
    security_groups=("sg-1", "sg-2"),
    instance_profile="bot",
    metadata_options=METADATA_OPTIONS,
    tags={**TAGS, "team": "of somebody else"},
    launched_at=1,
)


def test_the_user_data_of_a_request_is_compared_as_ec2_gives_it() -> None:
    """Base64 of the bytes; requests of releases that did not pack it hold the text."""
    content = user_data(bot().config, bot().config_sha, region="eu-central-1", parameter="/bots/forge/token")
    encoded = base64.b64encode(content).decode()
    assert declared(bot(), launch(UserData=encoded), SETTINGS).user_data == fingerprint(content)
    assert fingerprint_of_base64(encoded) == fingerprint(content)


def test_what_is_as_it_was_asked_for_does_not_differ() -> None:
    assert compare(DECLARED, REAL, user_data=DECLARED.user_data, reported=bot().config_sha) == []
    assert compare(DECLARED, REAL) == [], "what is not known does not differ"


@pytest.mark.parametrize(
    ("changes", "field", "stored", "real", "disruptive"),
    [
        ({"state": "terminated"}, "instance", "running", "terminated", True),
        ({"state": "shutting-down"}, "instance", "running", "shutting-down", True),
        ({"state": "stopped"}, "instance", "running", "stopped", True),
        ({"instance_type": "t3.large"}, "instance_type", "t3.micro", "t3.large", True),
        ({"security_groups": ("sg-1",)}, "security_groups", ["sg-1", "sg-2"], ["sg-1"], False),
        ({"security_groups": ()}, "security_groups", ["sg-1", "sg-2"], [], False),
        ({"instance_profile": ""}, "instance_profile", "bot", "", True),
        (
            {"metadata_options": {**METADATA_OPTIONS, "HttpTokens": "optional"}},
            "metadata_options",
            {"HttpTokens": "required"},
            {"HttpTokens": "optional"},
            False,
        ),
        (
            {"tags": {**REAL.tags, "bot-orchestrator:bot": "anvil"}},
            "tags",
            {"bot-orchestrator:bot": "forge"},
            {"bot-orchestrator:bot": "anvil"},
            False,
        ),
        (
            {"tags": {key: REAL.tags[key] for key in REAL.tags if key != "Name"}},
            "tags",
            {"Name": "bot-forge"},
            {"Name": None},
            False,
        ),
    ],
)
def test_one_thing_that_differs_is_said_with_what_it_takes(
    changes: dict[str, Any], field: str, stored: object, real: object, disruptive: bool
) -> None:
    (difference,) = compare(DECLARED, replace(REAL, **changes), user_data=DECLARED.user_data)
    assert (difference.field, difference.stored, difference.real) == (field, stored, real)
    assert difference.disruptive is disruptive
    view = difference.view()
    assert set(view) == {"field", "stored", "real", "fix", "disruptive"}
    assert view["fix"]


def test_what_the_instance_was_told_and_what_the_bot_runs_are_compared_by_hash() -> None:
    differences = compare(DECLARED, REAL, user_data="0" * 16, reported="1" * 16)
    assert [(each.field, each.stored, each.real, each.disruptive) for each in differences] == [
        ("user_data", DECLARED.user_data, "0" * 16, True),
        ("config_sha", bot().config_sha, "1" * 16, True),
    ]
    assert DECLARED.user_data == fingerprint(b"#cloud-config")


def test_an_instance_that_is_gone_differs_in_nothing_else() -> None:
    assert compare(DECLARED, None, reported="1" * 16) == [
        Difference("instance", "running", "gone", "redeploy"),
    ]


@pytest.mark.parametrize("tags", [{}, {MANAGED: "false"}, {"bot-orchestrator:bot": "forge"}])
def test_an_instance_that_is_not_ours_any_more_is_left_to_a_person(tags: dict[str, str]) -> None:
    """Whatever else differs: no fix of ours is offered for it."""
    (difference,) = compare(DECLARED, replace(REAL, tags=tags, instance_type="t3.large"), user_data="other")
    assert (difference.field, difference.remedy, difference.disruptive) == ("managed", "person", False)


def test_what_is_not_declared_is_not_compared() -> None:
    bare = read_settings()
    declaration = declared(bot(), launch(), bare)
    assert compare(declaration, replace(REAL, security_groups=("sg-9",), instance_profile="other")) == []


def test_a_type_that_was_fallen_back_to_is_no_drift() -> None:
    declaration = declared(bot(), launch(InstanceType="t3.small"), SETTINGS)
    assert compare(declaration, replace(REAL, instance_type="t3.small")) == []


def test_an_adopted_instance_is_asked_for_no_more_than_it_was_ever_given() -> None:
    declaration = declared(bot(), None, read_settings())
    ours = {MANAGED: "true", "bot-orchestrator:bot": "forge"}
    assert compare(declaration, replace(REAL, tags=ours), user_data="whatever it is") == []
    assert declaration == Declared("t3.micro", bot().config_sha, ours)


def test_a_difference_is_known_since_it_was_first_seen() -> None:
    instance_type = Difference("instance_type", "a", "b", "redeploy")
    tags = Difference("tags", {}, {}, "tag")
    before = with_since([instance_type], [], 10)
    after = with_since([instance_type, tags], before, 20)
    assert [(view["field"], view["since"]) for view in after] == [("instance_type", 10), ("tags", 20)]
    ended = with_since([], before, 20)
    assert [view["since"] for view in with_since([instance_type], ended, 30)] == [30]
