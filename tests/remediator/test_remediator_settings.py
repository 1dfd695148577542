from collections.abc import Mapping
from pathlib import Path

import pytest

from exporter.durations import parse_duration
from remediator import logs
from remediator.__main__ import main
from remediator.settings import PREFIX, SettingsError, describe, read_settings, seconds

SECRET = "planted-secret-77aa"


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Return an environment without settings of ours, to put some into."""
    for name, _, _ in describe():
        monkeypatch.delenv(name, raising=False)
    return monkeypatch


def put(setting: pytest.MonkeyPatch, **values: str) -> None:
    for name, value in values.items():
        setting.setenv(PREFIX + name, value)


@pytest.mark.parametrize(
    ("text", "value"),
    [("250ms", 0.25), ("30s", 30), ("5m", 300), ("1h30m", 5400), ("2d", 172800), ("1w", 604800), ("0s", 0)],
)
def test_durations_are_written_as_prometheus_writes_them(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "30", "5 m", "-5s", "5x", "s", "1m x", "soon", "5s,"])
def test_what_is_no_duration_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="write it as 250ms, 60s or 1m30s"):
        seconds(text)


def test_the_defaults_are_the_documented_ones(setting: pytest.MonkeyPatch) -> None:
    settings = read_settings()
    assert settings.listen == ("127.0.0.1", 19000)
    assert settings.aws_region == "us-west-1"
    assert settings.database_url == "sqlite:///remediator.db"
    assert (settings.fleet_max_unhealthy_ratio, settings.fleet_min_unhealthy) == (0.3, 1)
    assert settings.verify_probes == 3
    assert settings.metrics_are_open
    assert settings.allowed_hosts == []
    assert settings.token is None


def test_every_default_duration_shown_to_people_can_be_written_back(setting: pytest.MonkeyPatch) -> None:
    settings = read_settings()
    defaults = {name.removeprefix(PREFIX).lower(): default for name, default, _ in describe()}
    for name in ("aws_poll", "probe_timeout", "verify_interval", "restart_timeout", "redeploy_timeout"):
        assert parse_duration(defaults[name]) == getattr(settings, name)


def test_every_setting_says_what_it_is() -> None:
    assert all(name.startswith(PREFIX) and meaning for name, _, meaning in describe())


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LISTEN", "19000"),
        ("LISTEN", "127.0.0.1:99999"),
        ("LISTEN", ":19000"),
        ("GATE_INTERVAL", "15"),
        ("PROBE_TIMEOUT", "soon"),
        ("VERIFY_PROBES", "0"),
        ("VERIFY_PROBES", "three"),
        ("FLEET_MAX_UNHEALTHY_RATIO", "30"),
        ("FLEET_MIN_UNHEALTHY", "0"),
        ("MAX_IN_FLIGHT", "0"),
        ("AWS_CONCURRENCY", "0"),
        ("LOG_LEVEL", "loud"),
        ("LOG_FORMAT", "xml"),
        ("ADDRESS", "both"),
        ("OPEN_METRICS", "maybe"),
        ("ALLOWED_HOSTS", "http://bots.internal"),
        ("ALLOWED_HOSTS", "bots.internal:19000"),
        ("ALLOWED_HOSTS", "*"),
        ("PUBLIC_URL", "bots.internal"),
        ("PUBLIC_URL", "https://"),
        ("PUBLIC_URL", "https://bots.internal:port"),
        ("TOKEN", ""),
        ("TOKEN", "   "),
    ],
)
def test_a_wrong_setting_is_named_by_its_variable(setting: pytest.MonkeyPatch, name: str, value: str) -> None:
    put(setting, **{name: value})
    with pytest.raises(SettingsError, match=PREFIX + name):
        read_settings()


def test_every_wrong_setting_is_named_at_once(setting: pytest.MonkeyPatch) -> None:
    put(setting, LOG_LEVEL="loud", MAX_IN_FLIGHT="0")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert {line.partition(":")[0] for line in str(caught.value).splitlines()} == {
        PREFIX + "LOG_LEVEL",
        PREFIX + "MAX_IN_FLIGHT",
    }


@pytest.mark.parametrize("address", ["0.0.0.0:19000", "[::]:19000", "10.1.2.3:80", "example.org:80"])
def test_beyond_loopback_metrics_need_the_token_unless_they_are_opened(
    setting: pytest.MonkeyPatch, address: str
) -> None:
    put(setting, LISTEN=address)
    assert not read_settings().metrics_are_open
    put(setting, OPEN_METRICS="true")
    assert read_settings().metrics_are_open


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_on_loopback_metrics_need_no_token_unless_they_are_closed(
    setting: pytest.MonkeyPatch, address: str
) -> None:
    put(setting, LISTEN=address)
    assert read_settings().metrics_are_open
    put(setting, OPEN_METRICS="false")
    assert not read_settings().metrics_are_open


def test_names_of_the_service_are_words(setting: pytest.MonkeyPatch) -> None:
    put(setting, ALLOWED_HOSTS="Bots.internal, remediator")
    assert read_settings().allowed_hosts == ["bots.internal", "remediator"]


def test_a_secret_may_stand_in_a_file(setting: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(f"{SECRET}\n")
    put(setting, TOKEN_FILE=str(tmp_path / "token"))
    token = read_settings().token
    assert token is not None
    assert token.get_secret_value() == SECRET


def test_a_secret_given_twice_is_refused(setting: pytest.MonkeyPatch, tmp_path: Path) -> None:
    put(setting, TOKEN=SECRET, TOKEN_FILE=str(tmp_path / "token"))
    with pytest.raises(SettingsError, match="BOT_REMEDIATOR_TOKEN and its _FILE are both set") as caught:
        read_settings()
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("name", ["TOKEN", "TELEGRAM_TOKEN"])
def test_a_file_that_cannot_be_read_is_named(setting: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    put(setting, **{f"{name}_FILE": str(tmp_path / "nowhere")})
    with pytest.raises(SettingsError, match=rf"{name}_FILE: cannot read .*nowhere"):
        read_settings()


@pytest.mark.parametrize("variables", [{"TELEGRAM_TOKEN": SECRET}, {"TELEGRAM_CHAT_ID": "1"}])
def test_telegram_takes_both_a_token_and_a_chat(
    setting: pytest.MonkeyPatch, variables: Mapping[str, str]
) -> None:
    put(setting, **variables)
    with pytest.raises(SettingsError, match="TELEGRAM_TOKEN and _CHAT_ID go together") as caught:
        read_settings()
    assert SECRET not in str(caught.value)


def test_secrets_print_as_stars(setting: pytest.MonkeyPatch) -> None:
    put(setting, TOKEN=SECRET, TELEGRAM_TOKEN=SECRET, TELEGRAM_CHAT_ID="1")
    settings = read_settings()
    printed = f"{settings!r} {settings} {settings.model_dump()} {settings.model_dump_json()}"
    assert SECRET not in printed
    assert "**********" in printed


def test_no_wrong_setting_says_a_secret(setting: pytest.MonkeyPatch) -> None:
    put(setting, TOKEN=SECRET, TELEGRAM_TOKEN=SECRET, LOG_LEVEL="loud")
    with pytest.raises(SettingsError) as caught:
        read_settings()
    assert SECRET not in str(caught.value)


def test_settings_cannot_be_changed(setting: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="frozen"):
        read_settings().max_in_flight = 5


def test_help_lists_every_setting(setting: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    output = capsys.readouterr().out
    assert all(name in output for name, _, _ in describe())


def test_an_unknown_argument_is_refused(setting: pytest.MonkeyPatch) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--port", "1"])
    assert caught.value.code == 2


def test_the_process_names_what_is_wrong_and_exits_with_two(
    setting: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "no.db").write_text("this is no database, " * 100)
    (tmp_path / "templates").mkdir()
    put(setting, TOKEN=SECRET)
    setting.setattr(logs, "configure", lambda *_: None)  # of this process, for all tests after this one
    for wrong, words in [
        ({"LISTEN": "nonsense"}, "BOT_REMEDIATOR_LISTEN: must be HOST:PORT"),
        ({"LISTEN": "203.0.113.7:1"}, "BOT_REMEDIATOR_LISTEN: cannot listen on 203.0.113.7:1"),
        ({"DATABASE_URL": f"sqlite:///{tmp_path}/no.db"}, "file is not a database"),
        ({"TEMPLATES_DIR": str(tmp_path / "templates")}, "holds no *.yaml template"),
    ]:
        with setting.context() as now:
            put(
                now,
                **{"LISTEN": "127.0.0.1:0", "DATABASE_URL": f"sqlite:///{tmp_path}/s.db", **wrong},
            )
            assert main([]) == 2, wrong
        errors = capsys.readouterr().err
        assert errors.startswith("bot-remediator: "), errors
        assert words in errors
        assert SECRET not in errors
