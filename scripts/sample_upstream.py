"""A small order service: creates orders, shows them, and fails at /failing."""

import argparse
import itertools
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

NUMBERS = itertools.count(1)


class Orders(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    slow = 0.0

    def do_GET(self):
        last = self.path.split("?")[0].rsplit("/", 1)[-1]
        number = int(last) if last.isascii() and last.isdigit() and len(last) < 10 else 1
        self.answer(200, {"order": number})

    def do_POST(self):
        if self.path == "/failing":
            self.answer(400, {"error": "no such article"})
        else:
            number = next(NUMBERS)
            self.answer(201, {"order": number}, [("Location", f"/orders/{number}")])

    do_HEAD = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET

    def do_TRACE(self):
        self.answer(405, {}, [("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")])

    do_QUERY = do_TRACE

    def answer(self, status, document, fields=()):
        # What is not read of a request would be taken for the next one.
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.close_connection |= "Transfer-Encoding" in self.headers
        if self.command == "POST":
            time.sleep(self.slow)
        body = json.dumps(document).encode()
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


class Service(ThreadingHTTPServer):
    def handle_error(self, *of):
        """Says nothing of clients that hang up before the answer."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(*of)


def seconds(text):
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError
    return number


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--port", type=int, default=9000, help="the port of 127.0.0.1; 0 takes a free one (9000)"
    )
    parser.add_argument(
        "--slow", type=seconds, default=0, metavar="SECONDS", help="answer each POST that much later"
    )
    return parser.parse_args()


def main():
    given = arguments()
    Orders.slow = given.slow
    try:
        server = Service(("127.0.0.1", given.port), Orders)
    except (OSError, OverflowError) as error:
        sys.exit(f"cannot listen on 127.0.0.1:{given.port}: {error}; choose another --port")
    print(f"listening on http://127.0.0.1:{server.server_address[1]}", flush=True)
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
