#!/usr/bin/env bash
# sushy 5.14.0 (PyPI, OpenStack's Redfish client): TaskMonitor.wait() fails on a Retry-After in
# seconds.
#
# Seen: `Retry-After: 1` beside a 202, as RFC 9110 section 10.2.3 allows, and wait() raises
# TypeError. sleep_for hands the field's text to time.sleep as it is. A date works.
#
# One would guess otherwise, because seconds are the usual form, and sleep_for asks for it with
# isdigit(). A loop over check_is_processing with pauses of one's own works.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check sushy==5.14.0
cat >"$folder/try.py" <<'PYTHON'
import sys, threading
from http.server import BaseHTTPRequestHandler, HTTPServer
import requests
from sushy import taskmonitor

class Task(BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Task.asked += 1
        self.send_response(202 if Task.asked < 3 else 200)
        self.send_header("Retry-After", "1")
        self.send_header("Content-Length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass

server = HTTPServer(("127.0.0.1", 0), Task)
threading.Thread(target=server.serve_forever, daemon=True).start()

class Connector:
    def get(self, path="", **_):
        return requests.get(f"http://127.0.0.1:{server.server_port}{path}", timeout=5)

connector = Connector()
monitor = taskmonitor.TaskMonitor(connector, "/task", response=connector.get("/task"))
try:
    monitor.wait(10)
except TypeError as error:
    print("Retry-After: 1 raises TypeError:", error)
    sys.exit(0)
print("wait() came back: seconds are understood")
sys.exit(1)
PYTHON
"$folder/venv/bin/python" "$folder/try.py"
