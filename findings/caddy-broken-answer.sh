#!/usr/bin/env bash
# Caddy 2.6.2 (Debian 12): reverse_proxy makes a broken answer of unknown length look whole.
#
# Seen: a server sends one chunk of an answer and closes the connection without the last chunk. Caddy
# passes the piece on, writes the last chunk, and the client takes a 200 with half a body for the
# whole. With a Content-Length the client can tell. nginx 1.22.1 closes its own connection without a
# last chunk in both cases.
#
# One would guess otherwise, because the last chunk says that the body is complete (RFC 9112 section
# 8), and Caddy has read an answer that is not: it logs "aborting with incomplete response".
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
apt-get download -qq 'caddy=2.6.2-*' 2>/dev/null
dpkg -x caddy_*.deb .
cat >try.py <<'PYTHON'
import http.client, pathlib, socket, subprocess, sys, threading, time

def free():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

def serve(server):
    while True:
        connection, _ = server.accept()
        head = connection.recv(65536)
        if b"GET /chunked" in head:
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
        elif head:
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf")
        time.sleep(0.2)
        connection.close()

def end(path):
    """How the answer ends."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    client.request("GET", path)
    answer = client.getresponse()
    try:
        return f"looks whole ({answer.read().decode()})"
    except http.client.IncompleteRead:
        return "broken off"

server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=serve, args=(server,), daemon=True).start()
port = free()
pathlib.Path("Caddyfile").write_text(
    f"{{\n  admin off\n  auto_https off\n}}\nhttp://127.0.0.1:{port} {{\n  reverse_proxy 127.0.0.1:{server.getsockname()[1]}\n}}\n")
argv = ["usr/bin/caddy", "run", "--config", "Caddyfile", "--adapter", "caddyfile"]
with open("log", "w") as log:
    proxy = subprocess.Popen(argv, stdout=log, stderr=log)
try:
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    chunked, length = end("/chunked"), end("/length")
finally:
    proxy.terminate()
    proxy.wait()
said = "aborting with incomplete response" in pathlib.Path("log").read_text()
print(f"half the body came. chunked: {chunked}; with Content-Length: {length}; told in the log: {said}")
sys.exit(0 if (chunked, length) == ("looks whole (half)", "broken off") else 1)
PYTHON
python3 try.py
