"""A service as there are many: it sells nothing, and says that it is well. `python service.py PORT`."""

import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Shop(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        known = {"/": "hello", "/health": "ok", "/ready": "ok"}
        body = known.get(self.path, "not found").encode()
        self.send_response(200 if self.path in known else 404)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Shop).serve_forever()
