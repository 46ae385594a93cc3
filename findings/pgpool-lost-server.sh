#!/usr/bin/env bash
# pgpool-II 4.3.5 (Debian 12): a server that it cannot reach is an "internal error", XX000.
#
# Seen: pgpool stands before a port on which no PostgreSQL listens. A client that connects gets FATAL
# with the code XX000, and so does one whose server goes away later ("unable to read data from DB node 0").
#
# One would guess otherwise, because PostgreSQL has codes for that, which clients take for "come again
# later": class 08 for connections, 57P01 to 57P03 for a server that stops, has crashed or starts.
# XX000 is what PostgreSQL says of faults inside it, in the class of damaged data. A client tells
# them apart by the severity: FATAL is about the connection.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
chmod 755 "$folder"
cd "$folder"
apt-get download -qq 'pgpool2=4.3.5-*' libmemcached11 libpq5 2>/dev/null
for package in *.deb; do dpkg -x "$package" .; done
cat >try.py <<'PYTHON'
import contextlib, os, pathlib, signal, socket, struct, subprocess, sys, time

def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

def refusal(port):
    """The fields of the error that a client gets when it connects."""
    with socket.create_connection(("127.0.0.1", port), 5) as connection:
        connection.settimeout(20)
        asked = b"user\0postgres\0database\0postgres\0\0"
        connection.sendall(struct.pack("!II", len(asked) + 8, 196608) + asked)
        came = b""
        while octets := connection.recv(4096):
            came += octets
    kind, fields = came[:1], came[5:].split(b"\0")
    return kind.decode(), {one[:1].decode(): one[1:].decode() for one in fields if one}

here, port, nobody = pathlib.Path.cwd(), free_port(), free_port()
(here / "pcp.conf").touch()
(here / "pgpool.conf").write_text(f"""listen_addresses = '127.0.0.1'
port = {port}
pcp_listen_addresses = ''
pcp_port = {free_port()}
unix_socket_directories = '{here}'
pcp_socket_dir = '{here}'
wd_ipc_socket_dir = '{here}'
pid_file_name = '{here}/pid'
logdir = '{here}'
backend_clustering_mode = 'streaming_replication'
backend_hostname0 = '127.0.0.1'
backend_port0 = {nobody}
backend_weight0 = 1
sr_check_period = 0
num_init_children = 4
failover_on_backend_error = off
""")
environment = {**os.environ, "LD_LIBRARY_PATH": f"{here}/usr/lib/x86_64-linux-gnu"}
argv = [here / "usr/sbin/pgpool", "-n", "-f", here / "pgpool.conf", "-F", here / "pcp.conf"]
log = open("log", "wb")
program = subprocess.Popen(argv, env=environment, start_new_session=True, stdout=log, stderr=log)
try:
    for _ in range(100):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            break
        time.sleep(0.1)
    kind, fields = refusal(port)
finally:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(program.pid, signal.SIGTERM)
    program.wait()
print(f"{kind}: severity {fields.get('S')}, code {fields.get('C')}: {fields.get('M')}")
sys.exit(0 if (kind, fields.get("S"), fields.get("C")) == ("E", "FATAL", "XX000") else 1)
PYTHON
python3 try.py
