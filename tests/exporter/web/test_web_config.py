"""TLS and basic auth of the exporter's own server."""

import asyncio
import base64
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import bcrypt
import pytest

from exporter.web.web_config import BasicAuthentication, WebConfigError, load, tls_context

HASH = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()


def basic(login: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{login}:{password}".encode()).decode()


async def test_only_a_user_with_the_right_password_is_let_in() -> None:
    authentication = BasicAuthentication({"prometheus": HASH})
    good = basic("prometheus", "secret")
    assert [await authentication.allows(good) for _ in range(2)] == [True, True]
    for login, password in (("prometheus", "wrong"), ("nobody", "secret"), ("prometheus", "x" * 100)):
        assert not await authentication.allows(basic(login, password))
    for header in ("", "Basic", "Basic !!!", "Bearer secret", "Basic cHJvbWV0aGV1cw=="):
        assert not await authentication.allows(header)
    assert await BasicAuthentication({}).allows("")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("basic_auth_user: {}", "basic_auth_user"),
        ("basic_auth_users: {prometheus: secret}", "basic_auth_users.prometheus"),
        ("tls_server_config: {cert_file: a}", "tls_server_config.key_file"),
        ("tls_server_config: {cert_file: a, key_file: b, min_version: SSL3}", "min_version"),
        ("[", "--web.config.file"),
        ("", "protects nothing"),
        ("basic_auth_users: {}", "names nobody"),
        ("basic_auth_users:", "basic_auth_users"),
        ("tls_server_config: {cert_file: a, key_file: b, client_ca_file: c}", "client_ca_file: is not used"),
        (
            "tls_server_config: {cert_file: a, key_file: b, client_auth_type: RequireAndVerifyClientCert}",
            "client_ca_file: is missing",
        ),
        (f"basic_auth_users: {{a: '{HASH}', a: '{HASH}'}}", "the key a stands twice"),
        ("basic_auth_users: {prometheus: secret\nx: 'secret", "line"),
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


async def status(url: str, login: str, password: str) -> int:
    headers = {"Authorization": basic(login, password)}
    async with (
        aiohttp.ClientSession() as session,
        session.get(url + "/-/healthy", headers=headers, ssl=False) as response,
    ):
        return response.status


def certificate_of(url: str) -> bytes:
    """Return the certificate of a new connection; unlike aiohttp this names no server."""
    address = urlsplit(url)
    anyone = ssl.create_default_context()
    anyone.check_hostname, anyone.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection((address.hostname, address.port), 20) as plain,
        anyone.wrap_socket(plain) as connection,
    ):
        return connection.getpeercert(binary_form=True) or b""


async def test_users_and_a_renewed_certificate_count_without_a_restart(
    run_exporter: Any, tmp_path: Path, certificate: Any
) -> None:
    """And a file that breaks is named once, while the last good one stays."""
    certificate(tmp_path, "127.0.0.1")
    path, bots = tmp_path / "web.yml", tmp_path / "bots.json"
    tls = "tls_server_config: {cert_file: cert.pem, key_file: key.pem}\n"
    path.write_text(f"{tls}basic_auth_users: {{prometheus: '{HASH}'}}\n")
    bots.write_text("[]")
    async with run_exporter("--targets.file", str(bots), "--web.config.file", str(path)) as exporter:
        assert await status(exporter.url, "prometheus", "secret") == 200
        assert await status(exporter.url, "grafana", "secret") == 401

        path.write_text(f"{tls}basic_auth_users: {{grafana: '{HASH}'}}\n")
        assert await status(exporter.url, "grafana", "secret") == 200
        assert await status(exporter.url, "prometheus", "secret") == 401, "not even remembered"

        before = await asyncio.to_thread(certificate_of, exporter.url)
        certificate(tmp_path, "127.0.0.1")
        renewed = ssl.PEM_cert_to_DER_cert((tmp_path / "cert.pem").read_text())
        assert before != renewed
        assert await asyncio.to_thread(certificate_of, exporter.url) == renewed

        path.write_text("basic_auth_user: {}")
        (tmp_path / "key.pem").write_text("half a key")
        for _ in range(2):
            assert await status(exporter.url, "grafana", "secret") == 200
            assert await status(exporter.url, "nobody", "secret") == 401
        assert await asyncio.to_thread(certificate_of, exporter.url) == renewed
        assert await exporter.stop() == 0
    assert exporter.log.read_text().count("web config not read") == 1
