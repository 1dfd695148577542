"""`--web.config.file` as Prometheus's exporter-toolkit has it: TLS, and basic auth with bcrypt hashes.

Users and certificates count as they are on disk at each request and handshake (exporter-toolkit:
web/handler.go, web/tls_config.go), so that renewing a certificate needs no restart and no signal.
"""

import asyncio
import base64
import hashlib
import hmac
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Literal

import bcrypt
import structlog
from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from exporter.fleet.yaml_documents import load_yaml

_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}
_CACHED = 100  # good credentials, so that a scrape need not pay for bcrypt each time
# Compared when the user is unknown, so that the answer takes as long.
_NOBODY = "$2b$10$" + "." * 53
_NOTHING = "it protects nothing: write tls_server_config or basic_auth_users, or drop the flag"
Hash = Annotated[str, Field(pattern=r"^\$2[aby]\$[0-9]{2}\$.{53}$")]
_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

log = structlog.get_logger()


class WebConfigError(Exception):
    """The file cannot be used; says where and why."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TlsServer(_Strict):
    """The section `tls_server_config`."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    client_auth_type: Literal["NoClientCert", "RequireAndVerifyClientCert"] = "NoClientCert"
    min_version: Literal["TLS12", "TLS13"] = "TLS12"


class WebConfig(_Strict):
    """The file's content; paths in it are relative to the file."""

    tls_server_config: TlsServer | None = None
    basic_auth_users: dict[str, Hash] | None = Field(default=None, repr=False)


def load(path: Path) -> WebConfig:
    """Read and check the file; WebConfigError names the field and the fault."""
    try:
        config = WebConfig.model_validate(load_yaml(path.read_bytes()))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        field = ".".join(map(str, first["loc"]))
        message = f"{field}: {first['msg']}" if field else _NOTHING
        raise WebConfigError(f"--web.config.file {path}: {message}") from None
    except (OSError, ValueError) as error:
        raise WebConfigError(f"--web.config.file {path}: {' '.join(str(error).split())}") from None
    if problem := _without_effect(config):
        raise WebConfigError(f"--web.config.file {path}: {problem}")
    return config


def _without_effect(config: WebConfig) -> str:
    """Return what the file sets for nothing, though it looks like protection; empty if all of it counts."""
    tls, users = config.tls_server_config, config.basic_auth_users
    if users is not None and not users:
        return "basic_auth_users: names nobody, so that anyone is let in: name a user, or drop it"
    if tls is None and not users:
        return _NOTHING
    if tls is not None and tls.client_ca_file and tls.client_auth_type == "NoClientCert":
        return (
            "tls_server_config.client_ca_file: is not used, so that anyone is let in: "
            "write client_auth_type: RequireAndVerifyClientCert, or drop it"
        )
    if tls is not None and tls.client_auth_type != "NoClientCert" and not tls.client_ca_file:
        return "tls_server_config.client_ca_file: is missing: client_auth_type needs it"
    return ""


def tls_context(config: WebConfig, path: Path) -> ssl.SSLContext | None:
    """Make the TLS context; None where the file has none, WebConfigError if a certificate cannot be used."""
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
    except OSError as error:
        raise WebConfigError(f"--web.config.file {path}: tls_server_config: {error}") from None
    return context


class WebConfigFile:
    """The file as it is now. One that breaks while it is in use is named once, and the last good one stays.

    WebConfigError at the start. Whether there is TLS, and whether clients need a certificate, is fixed then.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._config = load(path)
        self._context = tls_context(self._config, path)
        self._last_stamps = self._stamps()
        self._authentication = BasicAuthentication(self._config.basic_auth_users or {})

    def tls_context(self) -> ssl.SSLContext | None:
        """Return a server's context that takes the certificate of the moment at each handshake."""
        context = tls_context(self._config, self._path)
        if context is not None:
            context.sni_callback = self._select_context  # called for clients that name no server, too
        return context

    def authentication(self) -> "BasicAuthentication":
        """Return the check against the users of the moment."""
        self._refresh()
        return self._authentication

    def _select_context(
        self, connection: ssl.SSLObject | ssl.SSLSocket, _: str | None, __: ssl.SSLContext
    ) -> None:
        self._refresh()
        if self._context is not None:
            connection.context = self._context

    def _refresh(self) -> None:
        if (stamps := self._stamps()) == self._last_stamps:
            return
        self._last_stamps = stamps
        try:
            config = load(self._path)
            context = tls_context(config, self._path)
        except WebConfigError as error:
            log.error("web config not read, the last good one stays", why=str(error))
            return
        if config.basic_auth_users != self._config.basic_auth_users:
            self._authentication = BasicAuthentication(config.basic_auth_users or {})
        self._config, self._context = config, context
        log.info("web config read", path=str(self._path))

    def _stamps(self) -> list[tuple[int, int, int] | None]:
        """Return what differs once the file, or one that it names, was written or replaced."""
        tls = self._config.tls_server_config
        files = (tls.cert_file, tls.key_file, tls.client_ca_file) if tls else ()
        return [_stamp(self._path), *(_stamp(self._path.parent / file) for file in files if file)]


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


class BasicAuthentication:
    """Basic authentication: a user's name and password, or anything where there are no users.

    bcrypt is slow by intent: it runs in a thread, and its verdict is cached.
    """

    def __init__(self, users: dict[str, str]) -> None:
        self._users = users
        self._good: dict[bytes, None] = {}

    async def allows(self, header: str) -> bool:
        """Return whether an Authorization header names a user with the right password."""
        if not self._users:
            return True
        scheme, _, encoded = header.partition(" ")
        try:
            login, colon, password = base64.b64decode(encoded, validate=True).decode().partition(":")
        except ValueError:
            return False
        if scheme.lower() != "basic" or not colon:
            return False
        hashed = self._users.get(login)
        digest = hashlib.sha256(f"{login}\0{password}".encode()).digest()
        if digest in self._good:
            return True
        right = await asyncio.to_thread(_matches, password, hashed or _NOBODY)
        if not right or hashed is None:
            return False
        if len(self._good) >= _CACHED:
            self._good.clear()
        self._good[digest] = None
        return True


def basic_auth_middleware(file: WebConfigFile) -> Middleware:
    """Make the middleware that answers 401 to whom the file of the moment does not let in."""

    @web.middleware
    async def check(request: web.Request, handler: _Handler) -> web.StreamResponse:
        if await file.authentication().allows(request.headers.get(hdrs.AUTHORIZATION, "")):
            return await handler(request)
        headers = {hdrs.WWW_AUTHENTICATE: 'Basic realm="bot-exporter"'}
        return web.Response(status=401, text="a user name and password are needed\n", headers=headers)

    return check


def _matches(password: str, hashed: str) -> bool:
    try:
        computed = bcrypt.hashpw(password.encode()[:72], hashed.encode())
    except ValueError:
        return False
    return hmac.compare_digest(computed, hashed.encode())
