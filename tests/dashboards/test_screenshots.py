"""What the script demands of a browser; the screenshots themselves need a Grafana, and are not faked."""

from pathlib import Path

import pytest

from dashboards import screenshots


@pytest.fixture
def browser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a script in Chromium's stead: it notes its arguments, and draws nothing but an empty file."""
    folder = tmp_path / "bin"
    folder.mkdir()
    script = folder / "chromium"
    script.write_text(
        '#!/bin/sh\necho "$@" >>"$0.commands"\n'
        'for a; do case "$a" in --screenshot=*) : >"${a#--screenshot=}";; esac; done\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder / "chromium.commands"


def test_without_a_grafana_it_says_what_to_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("GRAFANA_URL", raising=False)
    assert screenshots.main([str(tmp_path)]) == 2
    assert "GRAFANA_URL" in capsys.readouterr().err


def test_without_a_browser_it_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRAFANA_URL", "http://127.0.0.1:3000")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert screenshots.main([str(tmp_path)]) == 2
    assert "chromium" in capsys.readouterr().err


def test_each_dashboard_is_drawn_whole_in_both_themes(
    browser: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAFANA_URL", "http://127.0.0.1:3000/")
    assert screenshots.main([str(tmp_path / "out"), "--bot", "forge"]) == 0
    drawn = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert drawn == [
        f"{name}-{theme}.png"
        for name in ("bot", "changes", "cost", "fleet", "recoveries", "watchers")
        for theme in ("dark", "light")
    ]
    commands = browser.read_text().splitlines()
    page = next(line for line in commands if "/d/bot-detail?" in line and "theme=dark" in line)
    assert "http://127.0.0.1:3000/d/bot-detail?kiosk=1&theme=dark&from=now-1h&to=now" in page
    assert "var-bot=forge" in page
    for _, board in screenshots.boards():
        bottom = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in board["panels"])
        assert screenshots.height(board) >= 38 * bottom
