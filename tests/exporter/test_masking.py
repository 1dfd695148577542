"""No secret of a URL is told."""

import pytest

from exporter.masking import masked, masked_url
from exporter.settings import Settings, parse_settings


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://x:1/sd", "http://x:1/sd"),
        ("http://x/sd?page=2&of=16", "http://x/sd?page=2&of=16"),
        ("http://u:p@x/sd", "http://***@x/sd"),
        ("http://token@x/sd", "http://***@x/sd"),
        ("http://u:p@q@x/sd", "http://***@x/sd"),
        ("https://x/sd?token=abc&page=1", "https://x/sd?token=***&page=1"),
        ("https://x/sd?abcdef", "https://x/sd?***"),
        ("/live?key=a%20b", "/live?key=***"),
        ("10.0.0.5:1", "10.0.0.5:1"),
    ],
)
def test_user_password_and_values_are_masked(url: str, shown: str) -> None:
    assert masked_url(url) == shown


def test_a_message_about_a_url_is_masked() -> None:
    url = "http://bob:hunter%202@x/sd?token=abcdef"
    for text in (url, "bad password hunter%202", "bad password 'hunter 2'", "no abcdef"):
        assert not any(secret in masked(text, url) for secret in ("hunter", "abcdef"))


def test_a_refused_flag_and_printed_settings_tell_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_settings(["--targets.url", "htp://u:hunter2@x?t=hunter2"])
    assert "hunter2" not in capsys.readouterr().err
    with pytest.raises(SystemExit):
        parse_settings(["--targets.url", "http://u:hunter2@x:99999/sd"])
    assert "hunter2" not in capsys.readouterr().err
    assert "hunter2" not in repr(Settings(urls=("http://u:hunter2@x/sd",)))
