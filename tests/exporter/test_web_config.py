"""TLS and basic auth of the exporter's own server."""

import base64
import ssl
from pathlib import Path
from typing import Any

import aiohttp
import bcrypt
import pytest

from exporter.web_config import BasicAuthentication, WebConfigError, load, tls_context

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


def basic(login: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


async def test_only_who_knows_the_password_is_let_in() -> None:
    authentication = BasicAuthentication({"prometheus": HASH})
    good = basic("prometheus", "secret")
    assert [await authentication.allows(good) for _ in range(2)] == [True, True]
    for login, password in (("prometheus", "wrong"), ("nobody", "secret"), ("prometheus", "x" * 100)):
        assert not await authentication.allows(basic(login, password))
    for header in ("", "Basic", "Basic !!!", "Bearer secret", "Basic cHJvbWV0aGV1cw=="):
        assert not await authentication.allows(header)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("basic_auth_user: {}", "basic_auth_user"),
        ("basic_auth_users: {prometheus: secret}", "basic_auth_users.prometheus"),
        ("tls_server_config: {cert_file: a}", "tls_server_config.key_file"),
        ("tls_server_config: {cert_file: a, key_file: b, min_version: SSL3}", "min_version"),
        ("[", "--web.config.file"),
    ],
)
def test_a_wrong_file_is_named_with_its_field_and_without_its_secrets(
    tmp_path: Path, text: str, words: str
) -> None:
    path = tmp_path / "web.yml"
    path.write_text(text)
    with pytest.raises(WebConfigError, match=words) as refused:
        load(path)
    assert "secret" not in str(refused.value)


def test_a_certificate_that_is_missing_is_named(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text("tls_server_config: {cert_file: a.pem, key_file: b.pem}")
    with pytest.raises(WebConfigError, match="tls_server_config"):
        tls_context(load(path), path)


def test_the_settings_print_no_hash(tmp_path: Path) -> None:
    path = tmp_path / "web.yml"
    path.write_text(f"basic_auth_users: {{prometheus: '{HASH}'}}")
    assert HASH not in repr(load(path))


async def test_metrics_over_tls_with_a_password(run_exporter: Any, tmp_path: Path, certificate: Any) -> None:
    certificate(tmp_path, "127.0.0.1")
    path = tmp_path / "web.yml"
    path.write_text(
        "tls_server_config: {cert_file: cert.pem, key_file: key.pem, min_version: TLS13}\n"
        f"basic_auth_users: {{prometheus: '{HASH}'}}\n"
    )
    (tmp_path / "bots.json").write_text("[]")
    flags = ("--targets.file", str(tmp_path / "bots.json"), "--web.config.file", str(path))
    trusted = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    async with run_exporter(*flags) as exporter, aiohttp.ClientSession() as session:
        assert exporter.url.startswith("https://")
        async with session.get(exporter.url + "/metrics", ssl=trusted) as response:
            assert response.status == 401
        headers = {"Authorization": basic("prometheus", "secret")}
        async with session.get(exporter.url + "/metrics", ssl=trusted, headers=headers) as response:
            assert response.status == 200
            assert "bot_exporter_build_info" in await response.text()
