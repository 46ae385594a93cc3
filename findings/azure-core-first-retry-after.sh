#!/usr/bin/env bash
# azure-core 1.41.0 (PyPI): the Retry-After of the 202 that starts a long-running operation is
# not used.
#
# Seen: a service answers the POST with 202 and `Retry-After: 1`. LROBasePolling asks the status
# monitor at once. The monitor's answer ("Running", without Retry-After) is the one whose field
# counts, and without it the poller waits polling_interval, 30 s unless set.
#
# One would guess otherwise, because the 202 named a pause, and because a monitor that leaves the
# field out says nothing against it. A service has to repeat Retry-After in each answer of its
# monitor.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check azure-core==1.41.0 requests==2.34.2
cat >"$folder/try.py" <<'PYTHON'
import json, sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from azure.core import PipelineClient
from azure.core.polling import LROPoller
from azure.core.polling.base_polling import LROBasePolling
from azure.core.rest import HttpRequest

class Service(BaseHTTPRequestHandler):
    polls = 0
    def answer(self, status, document, fields):
        body = json.dumps(document).encode()
        self.send_response(status)
        for name, value in {**fields, "Content-Type": "application/json", "Content-Length": len(body)}.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(body)
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        here = f"http://127.0.0.1:{self.server.server_port}"
        self.answer(202, {}, {"Operation-Location": f"{here}/status", "Retry-After": 1})
    def do_GET(self):
        Service.polls += 1
        self.answer(200, {"status": "Running" if Service.polls == 1 else "Succeeded"}, {})
    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), Service)
threading.Thread(target=server.serve_forever, daemon=True).start()
client = PipelineClient(f"http://127.0.0.1:{server.server_port}")
pauses = []
class Polling(LROBasePolling):
    def _sleep(self, delay):
        pauses.append(delay)
request = HttpRequest("POST", f"http://127.0.0.1:{server.server_port}/jobs", json={})
first = client._pipeline.run(request)
LROPoller(client, first, lambda response: response, Polling(30)).result(timeout=20)
print("pauses between two questions, in seconds:", pauses)
sys.exit(0 if pauses == [30] else 1)
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
