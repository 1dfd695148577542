"""Who may talk to a bot: in OpenClaw's words, and warned of where it is nobody or everybody."""

from typing import Any

import pytest

from remediator.configuration.access import telegram, warnings_of_access

GROUP = -1001234567890
MENTIONED = {str(GROUP): {"requireMention": True}}


@pytest.mark.parametrize(
    ("config", "access"),
    [
        ({}, {"dmPolicy": "pairing"}),
        ({"allow_from": [5, 6]}, {"dmPolicy": "allowlist", "allowFrom": ["5", "6"]}),
        ({"allow_from": [5], "dm_policy": "pairing"}, {"dmPolicy": "pairing", "allowFrom": ["5"]}),
        ({"dm_policy": "open"}, {"dmPolicy": "open", "allowFrom": ["*"]}),
        ({"dm_policy": "open", "allow_from": [5]}, {"dmPolicy": "open", "allowFrom": ["5", "*"]}),
        ({"dm_policy": "disabled"}, {"dmPolicy": "disabled"}),
        ({"groups": [GROUP]}, {"dmPolicy": "pairing", "groupPolicy": "allowlist", "groups": MENTIONED}),
        (
            {"groups": [GROUP], "group_allow_from": [7]},
            {
                "dmPolicy": "pairing",
                "groupPolicy": "allowlist",
                "groups": MENTIONED,
                "groupAllowFrom": ["7"],
            },
        ),
        ({"group_policy": "open"}, {"dmPolicy": "pairing", "groupPolicy": "open"}),
    ],
)
def test_in_the_words_of_openclaw(config: dict[str, Any], access: dict[str, Any]) -> None:
    assert telegram(config) == access


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, ["botctl pairing approve forge CODE"]),
        ({"dm_policy": "pairing", "allow_from": [5]}, []),
        ({"allow_from": [5]}, []),
        ({"dm_policy": "allowlist"}, ["name people's numeric Telegram ids in allow_from"]),
        ({"dm_policy": "disabled"}, ["name people's numeric Telegram ids in allow_from"]),
        ({"dm_policy": "disabled", "groups": [GROUP], "group_allow_from": [5]}, []),
        ({"dm_policy": "disabled", "groups": [GROUP], "group_policy": "open"}, []),
        ({"dm_policy": "open"}, ["lets everybody"]),
        ({"groups": [GROUP]}, ["botctl pairing approve forge CODE", "group_policy: open"]),
        ({"groups": [GROUP], "allow_from": [5]}, []),
        ({"groups": [GROUP], "allow_from": [5], "group_policy": "disabled"}, ["group_policy: open"]),
    ],
)
def test_a_bot_that_nobody_or_everybody_can_talk_to_is_said_with_the_remedy(
    config: dict[str, Any], said: list[str]
) -> None:
    warnings = list(warnings_of_access({"bot": "forge", **config}))
    assert len(warnings) == len(said), warnings
    for warning, remedy in zip(warnings, said, strict=True):
        assert remedy in warning
