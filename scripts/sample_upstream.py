"""A small order service: creates orders, and fails at /failing."""

import itertools
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NUMBERS = itertools.count(1)


class Orders(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.answer(200, b'{"order":1}')

    def do_POST(self):
        if self.path == "/failing":
            self.answer(400, b'{"error":"no such article"}')
        else:
            self.answer(201, b"{}", [("Location", f"/orders/{next(NUMBERS)}")])

    do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET

    def do_TRACE(self):
        self.answer(405, b"{}", [("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")])

    do_QUERY = do_TRACE

    def answer(self, status, body, fields=()):
        # What is not read of a request would be taken for the next one.
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.close_connection |= "Transfer-Encoding" in self.headers
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        for name, value in fields:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        """Says nothing of single requests."""


if __name__ == "__main__":
    server = ThreadingHTTPServer(("127.0.0.1", 0), Orders)
    print(f"listening on http://127.0.0.1:{server.server_address[1]}")
    server.serve_forever()
