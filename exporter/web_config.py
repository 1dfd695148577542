"""`--web.config.file` as Prometheus's exporter-toolkit has it: TLS, and basic auth with bcrypt hashes."""

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Literal

import bcrypt
import yaml
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from pydantic import BaseModel, ConfigDict, Field, ValidationError

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_REMEMBERED = 100  # good credentials, so that a scrape need not pay for bcrypt each time
# Compared when the user is unknown, so that the answer takes as long.
_NOBODY = "$2b$10$" + "." * 53
Hash = Annotated[str, Field(pattern=r"^\$2[aby]\$[0-9]{2}\$.{53}$")]
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class WebConfigError(Exception):
    """The file cannot be used; says where and why."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsServer(_Strict):
    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    client_auth_type: Literal["NoClientCert", "RequireAndVerifyClientCert"] = "NoClientCert"
    min_version: Literal["TLS12", "TLS13"] = "TLS12"


class WebConfig(_Strict):
    """Paths in it are relative to the file."""

    tls_server_config: TlsServer | None = None
    basic_auth_users: dict[str, Hash] = Field(default={}, repr=False)


def load(path: Path) -> WebConfig:
    try:
        document = yaml.safe_load(path.read_text()) or {}
        return WebConfig.model_validate(document)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise WebConfigError(f"--web.config.file {path}: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        raise WebConfigError(f"--web.config.file {path}: {field}: {first['msg']}") from None


def tls_context(config: WebConfig, path: Path) -> ssl.SSLContext | None:
    """None where the file asks for no TLS; WebConfigError if a certificate cannot be used."""
    tls = config.tls_server_config
    if tls is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = _VERSIONS[tls.min_version]
    try:
        context.load_cert_chain(path.parent / tls.cert_file, path.parent / tls.key_file)
        if tls.client_auth_type == "RequireAndVerifyClientCert":
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(path.parent / tls.client_ca_file if tls.client_ca_file else None)
    except (OSError, TypeError) as error:
        raise WebConfigError(f"--web.config.file {path}: tls_server_config: {error}") from None
    return context


class BasicAuthentication:
    """Lets in who knows a user's password. bcrypt is slow by intent: it runs in a thread, remembered."""

    def __init__(self, users: dict[str, str]) -> None:
        self._users = users
        self._good: dict[bytes, None] = {}

    async def allows(self, header: str) -> bool:
        scheme, _, encoded = header.partition(" ")
        try:
            login, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return False
        if scheme.lower() != "basic" or not colon:
            return False
        known = self._users.get(login)
        digest = hashlib.sha256(f"{login}\0{password}".encode()).digest()
        if digest in self._good:
            return True
        right = await asyncio.to_thread(_matches, password, known or _NOBODY)
        if not right or known is None:
            return False
        if len(self._good) >= _REMEMBERED:
            self._good.clear()
        self._good[digest] = None
        return True


def guard(users: dict[str, str]) -> Middleware:
    authentication = BasicAuthentication(users)

    @web.middleware
    async def check(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if await authentication.allows(request.headers.get(hdrs.AUTHORIZATION, "")):
            return await handler(request)
        headers = {hdrs.WWW_AUTHENTICATE: 'Basic realm="bot-exporter"'}
        return web.Response(status=401, text="a user name and password are needed\n", headers=headers)

    return check


def _matches(password: str, hashed: str) -> bool:
    try:
        found = bcrypt.hashpw(password.encode()[:72], hashed.encode())
    except ValueError:
        return False
    return hmac.compare_digest(found, hashed.encode())
