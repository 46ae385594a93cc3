#!/usr/bin/env bash
# redfish 3.4.2 (PyPI, DMTF's client): RestResponse.monitor() cannot follow a task monitor that is
# named by an absolute URL.
#
# Seen: a service answers 202 with `Location: http://host/task/1`. monitor() appends the whole URL to
# the base URL, asks no server, and raises RetriesExhaustedError. With a path in Location it works.
#
# One would guess otherwise, because Location is a URI reference, absolute ones included (RFC 9110
# section 10.2.2), and task_location hands it out as it came. `get(urlparse(r.task_location).path)`
# works with both.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check redfish==3.4.2
cat >"$folder/try.py" <<'PYTHON'
import json, logging, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
import redfish

logging.disable()
class Service(BaseHTTPRequestHandler):
    asked = []
    def answer(self, status, document, fields={}):
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**fields, "Content-Type": "application/json", "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        prefix = base if self.path == "/absolute" else ""
        self.answer(202, {}, {"Location": prefix + "/task/1"})
    def do_GET(self):
        Service.asked.append(self.path)
        self.answer(200, {"Links": {"Sessions": {"@odata.id": "/sessions"}}, "done": True})
    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), Service)
base = f"http://127.0.0.1:{server.server_port}"
threading.Thread(target=server.serve_forever, daemon=True).start()
client = redfish.redfish_client(base_url=base, username="u", password="p", max_retry=1, timeout=5)
told = {}
for kind in ("relative", "absolute"):
    Service.asked.clear()
    try:
        told[kind] = str(client.post("/" + kind, body={}).monitor(client).status)
    except Exception as error:
        told[kind] = type(error).__name__
    told[kind] += f", {len(Service.asked)} request"
print(told)
sys.exit(0 if told == {"relative": "200, 1 request", "absolute": "RetriesExhaustedError, 0 request"} else 1)
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
