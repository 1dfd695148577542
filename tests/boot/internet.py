"""What a booting instance finds outside: `python -I -S internet.py FOLDER REGION`, in a network namespace.

The metadata service (IMDSv2, on 169.254.169.254), and on one address, by TLS, what is on the internet: SSM
Parameter Store, Telegram, nodejs.org. Everything else goes out by another way. A line of JSON a request.

FOLDER holds `tls.pem`, `node.tar.gz` and `parameters.json` (name → value), which may change at any time.
"""

import json
import secrets
import ssl
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

METADATA, INTERNET = "169.254.169.254", "198.51.100.1"  # link-local; TEST-NET-2
ROLE = "bot"
KEY = {"AccessKeyId": "ASIA" + secrets.token_hex(8).upper(), "SecretAccessKey": secrets.token_hex(20)}
SESSION, IMDS_TOKEN = secrets.token_hex(32), secrets.token_hex(16)
POLL_SECONDS = 20.0  # of Telegram's getUpdates


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    region: str

    def answer(self, status: int, body: bytes, content_type: str = "application/json") -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def say(self, **facts: Any) -> None:
        sys.stdout.write(json.dumps(facts) + "\n")
        sys.stdout.flush()

    def log_message(self, *_: Any) -> None:
        pass

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))


class Metadata(Handler):
    """docs.aws.amazon.com/AWSEC2/latest/UserGuide/instance-metadata-v2-how-it-works.html"""

    def do_PUT(self) -> None:
        self.answer(200, IMDS_TOKEN.encode(), "text/plain")

    def do_GET(self) -> None:
        path, trusted = self.path.rstrip("/"), self.headers.get("X-aws-ec2-metadata-token") == IMDS_TOKEN
        self.say(service="metadata", path=path, trusted=trusted)
        roles = "/latest/meta-data/iam/security-credentials"
        if not trusted:
            self.answer(401, b"")
        elif path == roles:
            self.answer(200, ROLE.encode(), "text/plain")
        elif path == f"{roles}/{ROLE}":
            now, day = time.time(), "%Y-%m-%dT%H:%M:%SZ"
            times = {
                "LastUpdated": time.strftime(day, time.gmtime(now)),
                "Expiration": time.strftime(day, time.gmtime(now + 6 * 3600)),
            }
            known = {"Code": "Success", "Type": "AWS-HMAC", "Token": SESSION, **KEY, **times}
            self.answer(200, json.dumps(known).encode())
        else:
            self.answer(404, b"")


class Internet(Handler):
    def do_GET(self) -> None:
        host = self.headers.get("Host", "").partition(":")[0]
        if host == "nodejs.org":
            self.say(service="node", path=self.path)
            self.answer(200, (self.folder / "node.tar.gz").read_bytes(), "application/gzip")
        elif host == "api.telegram.org":
            self.telegram()
        else:
            self.answer(404, b"{}")

    def do_POST(self) -> None:
        host = self.headers.get("Host", "").partition(":")[0]
        if host == f"ssm.{self.region}.amazonaws.com":
            self.parameter()
        elif host == "api.telegram.org":
            self.telegram()
        else:
            self.answer(404, b"{}")

    def parameters(self) -> dict[str, str]:
        parameters: dict[str, str] = json.loads((self.folder / "parameters.json").read_text())
        return parameters

    def parameter(self) -> None:
        """GetParameter, for who signs with the role's key and asks for it decrypted, if it is a secret."""
        request = json.loads(self.body())
        signed = f"Credential={KEY['AccessKeyId']}/" in self.headers.get("Authorization", "")
        by_role = signed and self.headers.get("X-Amz-Security-Token") == SESSION
        self.say(service="ssm", name=request["Name"], by_role=by_role)
        value, secret = self.parameters().get(request["Name"]), request["Name"].startswith("/bots/")
        if self.headers.get("X-Amz-Target") != "AmazonSSM.GetParameter" or not by_role:
            self.answer(400, b'{"__type": "AccessDeniedException"}')
        elif value is None or (secret and request.get("WithDecryption") is not True):
            self.answer(400, b'{"__type": "ParameterNotFound"}')
        else:
            kind = "SecureString" if secret else "String"
            parameter = {"Name": request["Name"], "Type": kind, "Value": value}
            self.answer(200, json.dumps({"Parameter": parameter}).encode())

    def telegram(self) -> None:
        """Nobody writes to the bot, for whom knows the token."""
        self.body()
        _, bot, method = self.path.partition("?")[0].split("/", 2)
        known = any(bot == f"bot{value}" for value in self.parameters().values())
        self.say(service="telegram", method=method, known=known)
        if not known:
            self.answer(401, b'{"ok": false, "error_code": 401, "description": "Unauthorized"}')
            return
        results: dict[str, Any] = {
            "getme": {"id": 42, "is_bot": True, "first_name": "Forge", "username": "forge_bot"},
            "getupdates": [],
            "getwebhookinfo": {"url": "", "has_custom_certificate": False, "pending_update_count": 0},
        }
        if method.lower() == "getupdates":
            time.sleep(POLL_SECONDS)
        self.answer(200, json.dumps({"ok": True, "result": results.get(method.lower(), True)}).encode())


def serve(handler: type[Handler], address: str, port: int, context: ssl.SSLContext | None) -> None:
    server = ThreadingHTTPServer((address, port), handler)
    server.daemon_threads = True
    if context is not None:
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()


def main() -> None:
    Handler.folder, Handler.region = Path(sys.argv[1]), sys.argv[2]
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for address in (METADATA, INTERNET):
        subprocess.run(["ip", "address", "add", f"{address}/32", "dev", "lo"], check=True)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(Handler.folder / "tls.pem")
    serve(Metadata, METADATA, 80, None)
    serve(Internet, INTERNET, 443, context)
    sys.stdout.write('{"service": "all", "state": "up"}\n')
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    main()
