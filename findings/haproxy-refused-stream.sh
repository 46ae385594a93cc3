#!/usr/bin/env bash
# HAProxy 2.6.12 (Debian 12): over HTTP/2 it answers REFUSED_STREAM for a POST that the server has
# read.
#
# Seen: the server reads a POST and closes the connection without an answer. Over HTTP/2 HAProxy
# resets the stream with REFUSED_STREAM, also for the first request of a connection. Over
# HTTP/1.1 the first request of a connection is answered 502. curl sends such a POST six times.
#
# One would guess otherwise, because REFUSED_STREAM guarantees that the request was not processed
# (RFC 9113 section 8.7), so clients may send it again, POSTs too, without asking; HAProxy cannot
# know that here. A service behind it wants idempotency keys, or `alpn http/1.1` on the bind line.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq 'haproxy=2.6.12-*' liblua5.3-0 2>/dev/null
for package in *.deb; do dpkg -x "$package" .; done
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check h2==4.3.0
cat >try.py <<'PYTHON'
import glob, os, socket, subprocess, sys, threading, time
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ResponseReceived, StreamEnded, StreamReset

def free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

read = []
def serve(server):
    while True:
        connection, _ = server.accept()
        octets = b""
        while not octets.endswith(b"sku=A-1"):
            octets += connection.recv(65536)
        read.append(octets.split(b"\r\n", 1)[0].decode())
        connection.close()

server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(server,), daemon=True).start()
plain, two = free(), free()
with open("haproxy.cfg", "w") as file:
    file.write(f"""defaults
  mode http
  timeout connect 5s
  timeout client 20s
  timeout server 20s
frontend in
  bind 127.0.0.1:{plain}
  bind 127.0.0.1:{two} proto h2
  default_backend out
backend out
  server one 127.0.0.1:{server.getsockname()[1]}
""")
env = {**os.environ, "LD_LIBRARY_PATH": ":".join(glob.glob("usr/lib/*-linux-gnu"))}
proxy = subprocess.Popen(["usr/sbin/haproxy", "-db", "-f", "haproxy.cfg"], env=env, stderr=subprocess.DEVNULL)
try:
    for _ in range(100):
        try:
            client = socket.create_connection(("127.0.0.1", two), 10)
            break
        except OSError:
            time.sleep(0.1)
    http2 = H2Connection()
    http2.initiate_connection()
    http2.send_headers(1, [(":method", "POST"), (":path", "/pay"), (":scheme", "http"), (":authority", "a"), ("content-length", "7")])
    http2.send_data(1, b"sku=A-1", end_stream=True)
    client.sendall(http2.data_to_send())
    end = None
    while end is None:
        for event in http2.receive_data(client.recv(65536)):
            if isinstance(event, StreamReset):
                end = ErrorCodes(event.error_code).name
            elif isinstance(event, ResponseReceived):
                end = dict(event.headers)[b":status"].decode()
        client.sendall(http2.data_to_send())
    over_http2, arrived = end, len(read)
    client = socket.create_connection(("127.0.0.1", plain), 10)
    client.sendall(b"POST /pay HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\nsku=A-1")
    over_http1 = client.recv(65536).decode().split(" ")[1]
finally:
    proxy.terminate()
    proxy.wait()
print(f"the server read the POST {arrived} time; told over HTTP/2: {over_http2}; over HTTP/1.1: {over_http1}")
sys.exit(0 if (over_http2, over_http1, arrived) == ("REFUSED_STREAM", "502", 1) else 1)
PYTHON
venv/bin/python try.py
