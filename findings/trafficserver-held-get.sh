#!/usr/bin/env bash
# Traffic Server 9.2.9 (Debian 12): a GET whose answer is held back goes to the server four times.
#
# Seen: a server answers a GET (a long poll) after longer than
# proxy.config.http.transaction_no_activity_timeout_out, 30 s unless set and 2 s here. Traffic
# Server drops the connection, asks again on a new one three times, and then answers 504. So a
# client of a long poll of 45 s waits for 121 s, and the server holds four answers for it.
#
# One would guess otherwise, because the settings of retries (connect_attempts_max_retries) are named
# after connecting, and the connection was open: other proxies answer 504 at the first time-out.
# The time-out has to be longer than the longest answer that is held.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq 'trafficserver=9.2.*' libhwloc15 libpcre3 libyaml-cpp0.7 libcap2 libbrotli1 libudev1 2>/dev/null
for package in *.deb; do dpkg -x "$package" .; done
cat >try.py <<'PYTHON'
import glob, http.client, os, pathlib, socket, subprocess, sys, threading, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Poll(BaseHTTPRequestHandler):
    asked = 0
    def do_GET(self):
        Poll.asked += 1
        time.sleep(4)
        try:
            self.send_response(200)
            self.end_headers()
        except OSError:
            pass
    def log_message(self, *_):
        pass

server = ThreadingHTTPServer(("127.0.0.1", 0), Poll)
server.daemon_threads = True
server.handle_error = lambda *_: None
threading.Thread(target=server.serve_forever, daemon=True).start()
with socket.socket() as probe:
    probe.bind(("127.0.0.1", 0))
    port = probe.getsockname()[1]
here = pathlib.Path.cwd()
for name in ("etc", "run", "log", "cache"):
    (here / name).mkdir(exist_ok=True)
(here / "runroot.yaml").write_text(f"""prefix: {here}
exec_prefix: {here}
bindir: {here}/usr/bin
sbindir: {here}/usr/sbin
sysconfdir: {here}/etc
datadir: {here}/cache
includedir: {here}
libdir: {here}/usr/lib/trafficserver
libexecdir: {here}/usr/lib/trafficserver/modules
localstatedir: {here}
runtimedir: {here}/run
logdir: {here}/log
cachedir: {here}/cache
""")
(here / "etc/records.config").write_text(f"""CONFIG proxy.config.http.server_ports STRING {port}:ip-in=127.0.0.1
CONFIG proxy.config.admin.user_id STRING #-1
CONFIG proxy.config.http.transaction_no_activity_timeout_out INT 2
""")
(here / "etc/remap.config").write_text(f"map / http://127.0.0.1:{server.server_port}/\n")
(here / "etc/storage.config").write_text("cache 16M\n")
(here / "etc/ip_allow.yaml").write_text("ip_allow: [{ apply: in, ip_addrs: 127.0.0.1, action: allow, methods: ALL }]\n")
libraries = [f"{here}/usr/lib/trafficserver", *glob.glob(f"{here}/usr/lib/*-linux-gnu"), *glob.glob(f"{here}/lib/*-linux-gnu")]
proxy = subprocess.Popen(
    ["usr/bin/traffic_server", f"--run-root={here}/runroot.yaml"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    env={**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)},
)
try:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    began = time.monotonic()
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    client.request("GET", "/poll")
    status = client.getresponse().status
    took = round(time.monotonic() - began)
finally:
    proxy.terminate()
    proxy.wait()
print(f"one GET: the server was asked {Poll.asked} times; the client got {status} after {took} s")
sys.exit(0 if Poll.asked == 4 and status == 504 else 1)
PYTHON
python3 try.py
