#!/usr/bin/env python3
"""Measures PostgreSQL of several versions, and what stands before it, as the gateway's ledger.

    scripts/compatibility/databases.py --install          all of them, some 20 minutes
    scripts/compatibility/databases.py --install 17       this one
    scripts/compatibility/databases.py --json             one object for each database, a line each

Two gateways share the database. Measured: whether they start; 200 operations with serial keys through
both, in order, each carried out once, each with its own result; webhooks; how soon one gateway hears of
the end of what the other carried out (LISTEN and NOTIFY, or polling); 200 operations while the database
restarts twice, at once and in good order; a start against a hot standby, and its promotion.
"""

import collections
import concurrent.futures
import contextlib
import datetime
import http.client
import http.server
import json
import pathlib
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import uuid

import measurement
import stores

STORES = {
    **{name: () for name in ("12", "13", "14", "15", "16", "17", "18")},
    "pgbouncer": (stores.pgbouncer, "transaction", 'pooler = "transaction"', True),
    "pgbouncer without direct_url": (stores.pgbouncer, "transaction", 'pooler = "transaction"', False),
    "pgbouncer without store.pooler": (stores.pgbouncer, "transaction", "", False),
    "pgbouncer in session mode": (stores.pgbouncer, "session", 'pooler = "transaction"', False),
    "pgpool": (stores.pgpool, "", "", False),
    "pglite": None,
}
ROUTES = """[[routes]]
match = "POST /orders/{customer}"
delivery = "at-least-once"
serial_key = "path:customer"
retry = { attempts = 10, min = "100ms", max = "1s" }
[[routes]]
match = "POST /waits/{customer}"
[webhooks]
allow = ["127.0.0.0/8"]
allow_http = true
"""


class Service(http.server.BaseHTTPRequestHandler):
    """The upstream: gives the body back, and remembers what came in which order."""

    protocol_version = "HTTP/1.1"
    came = []

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        time.sleep(0.6 if self.path.startswith("/waits") else 0.005)
        Service.came.append(body.decode())
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Receiver(http.server.BaseHTTPRequestHandler):
    """Takes webhooks, and remembers their ids."""

    ids = []

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        Receiver.ids.append(self.headers["webhook-id"])
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_):
        pass


class Fleet:
    """Two gateways with one database."""

    def __init__(self, life, folder, service, url, store, direct, receiver=None, options=()):
        self.ports = []
        for name in ("one", "two"):
            place, port = folder / name, measurement.free_port()
            place.mkdir()
            routes = ROUTES + (f"ports = [443, 80, {receiver}]\n" if receiver else "")
            argv = measurement.configuration(place, port, port, service, routes, store=url)
            text = (place / "cloakroom.toml").read_text()
            direct_url = f'direct_url = "{direct}"' if direct else ""
            (place / "cloakroom.toml").write_text(text.replace("[upstreams.default]", f"{store}\n{direct_url}\n[upstreams.default]"))
            life.enter_context(measurement.running([*argv, *options], place, port, seconds=40))
            self.ports.append(port)


def exchange(port, method, path, body=None, fields=None, timeout=60):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, fields or {})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def accepted(port, path, body):
    """Posts with a key until it is accepted, as a client with patience does; gives monitor and refusals."""
    key, refused, end = str(uuid.uuid4()), 0, time.monotonic() + 60
    while time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, fields, _ = exchange(port, "POST", path, body, {"Idempotency-Key": key})
            if status == 202:
                return "/" + fields["Location"].split("/", 3)[3], refused
        refused += 1
        time.sleep(0.1)
    raise RuntimeError("not accepted within 60 s")


def asked_until(port, path, enough):
    """Asks until an answer comes that is enough: while the database is away there is only a 503."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        with contextlib.suppress(OSError, http.client.HTTPException):
            status, _, body = exchange(port, "GET", path)
            if status != 503 and enough(body):
                return body
        time.sleep(0.1)
    raise RuntimeError(f"{path} had no answer within 90 s")


def ended(port, monitor):
    """The document once the operation has ended, and the recorded answer's body."""
    final = lambda body: json.loads(body).get("status") in ("succeeded", "failed", "canceled")
    document = json.loads(asked_until(port, monitor + "/status", final))
    return document, asked_until(port, monitor + "/result", lambda _: True)


def load(fleet, count, meanwhile=None):
    """Operations of ten customers through both gateways: how they ended, and what the service saw."""
    Service.came.clear()
    bodies = [f"{n % 10}-{n // 10}-{uuid.uuid4().hex[:6]}" for n in range(count)]

    def customer(number):
        rows = []
        for n in range(number, count, 10):
            time.sleep(0.05 if meanwhile else 0)
            monitor, refused = accepted(fleet.ports[n % 2], f"/orders/c{number}", bodies[n])
            rows.append((n, monitor, refused))
        return rows

    if meanwhile:
        threading.Thread(target=meanwhile, daemon=True).start()
    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        rows = [row for part in pool.map(customer, range(10)) for row in part]
        told = list(pool.map(lambda row: (row, *ended(fleet.ports[(row[0] + 1) % 2], row[1])), rows))
    fates = collections.Counter(document["status"] for _, document, _ in told)
    seen = collections.Counter(Service.came)
    first = list(dict.fromkeys(Service.came))
    in_order = all([one for one in first if one.startswith(f"{c}-")] == [one for one in bodies if one.startswith(f"{c}-")] for c in range(10))
    row = dict(fates)
    row["wrong results"] = sum(result.decode() != bodies[n] for (n, _, _), document, result in told if document["status"] == "succeeded")
    row["never carried out"] = sum(body not in seen for body in bodies)
    row["carried out twice"] = sum(times > 1 for times in seen.values())
    row["in the order of the serial keys"] = in_order
    if meanwhile:
        row["refused and sent again"] = sum(refused for _, _, refused in rows)
    return row


def heard(fleet):
    """How long after the end one gateway answers for what the other carries out, in ms: the median of ten."""
    pauses = []
    for _ in range(10):
        _, fields, _ = exchange(fleet.ports[0], "POST", "/waits/c", uuid.uuid4().hex)
        monitor = "/" + fields["Location"].split("/", 3)[3]
        exchange(fleet.ports[1], "GET", monitor, fields={"Prefer": "wait=20"})
        answered = time.time()
        document = json.loads(exchange(fleet.ports[1], "GET", monitor + "/status")[2])
        pauses.append((answered - datetime.datetime.fromisoformat(document["finishedAt"]).timestamp()) * 1000)
    return round(statistics.median(pauses))


def subscribe(fleet, port):
    body = json.dumps({"url": f"http://127.0.0.2:{port}/", "events": ["operation.succeeded"]})
    status, _, answer = exchange(fleet.ports[0], "POST", "/-/webhooks", body, {"Content-Type": "application/json"})
    return None if status == 201 else f"{status}: {answer[:200]}"


def refusal(url, folder, store="", seconds=20):
    """What a gateway says that does not start: its code and its last line, or that it waits."""
    place = folder / f"refused-{uuid.uuid4().hex[:4]}"
    place.mkdir()
    argv = measurement.configuration(place, measurement.free_port(), 1, 1, "", store=url)
    text = (place / "cloakroom.toml").read_text()
    (place / "cloakroom.toml").write_text(text.replace("[upstreams.default]", f"{store}\n[upstreams.default]"))
    program = subprocess.Popen(argv, cwd=place, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    began = time.monotonic()
    try:
        out, _ = program.communicate(timeout=seconds)
        code = f"ends with {program.returncode} after {time.monotonic() - began:.1f} s"
    except subprocess.TimeoutExpired:
        program.kill()
        out, _ = program.communicate()
        code = f"still waits after {seconds} s"
    lines = re.sub(r"\x1b\[[0-9;]*m", "", out).strip().splitlines()
    return f"{code}: {' / '.join(lines[-2:])[-500:]}"


def on_standby(database, folder):
    """A start against a hot standby, and what becomes of it when the standby is promoted."""
    with database.standby() as (url, promote):
        row = {"start": refusal(url, folder, seconds=70)}
        promote()
        with contextlib.ExitStack() as life, measurement.serving(Service) as service:
            place = folder / "promoted"
            place.mkdir()
            fleet = Fleet(life, place, service, url, "", None)
            row["after promotion"] = load(fleet, 20)
        return row


def used(life, folder, url, store, direct, database, standby, options=()):
    """All cells of a store that works."""
    Receiver.ids.clear()
    receiver = life.enter_context(listening())
    service = life.enter_context(measurement.serving(Service))
    place = folder / "fleet"
    place.mkdir()
    with contextlib.ExitStack() as gateways:
        fleet = Fleet(gateways, place, service, url, store, direct, receiver, options)
        refused = subscribe(fleet, receiver)
        row = {"load": load(fleet, 200)}
        measurement.until(lambda: len(set(Receiver.ids)) >= 200 or refused, "webhooks came", 30)
        row["webhooks"] = refused or {"events": len(set(Receiver.ids)), "deliveries": len(Receiver.ids)}
        row["heard after, ms"] = heard(fleet)

        def restarts():
            for mode in ("immediate", "fast"):
                time.sleep(1)
                database.stop(mode)
                database.start()

        if database:
            row["load and restarts"] = load(fleet, 200, restarts)
    if standby:
        row["standby"] = on_standby(database, folder)
    return row


@contextlib.contextmanager
def listening():
    """A receiver of webhooks on an address that is not the gateway's own."""
    server = http.server.ThreadingHTTPServer(("127.0.0.2", 0), Receiver)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_port
    finally:
        server.shutdown()


def measure(name, folder, install):
    with contextlib.ExitStack() as life:
        if name == "pglite":
            if install:
                measurement.modules("pglite", *stores.PGLITE)
            url = life.enter_context(stores.pglite(folder))
            return {"version": ", ".join(stores.PGLITE), "start": refusal(url, folder)}
        major = name if name.isdigit() else "15"
        if install:
            stores.install(major)
            measurement.debian(*{"pgpool": ["pgpool2"], "pgbouncer": ["pgbouncer"]}.get(name.split()[0], []))
        (folder / "postgres").mkdir()
        database = stores.Postgres(major, folder / "postgres")
        life.callback(database.stop, "immediate")
        row = {"version": database.version()}
        if name.isdigit() and int(name) < 15:
            return {**row, "start": refusal(database.url(), folder)}
        if name.isdigit():
            return {**row, **used(life, folder, database.url(), "", None, database, True)}
        start, mode, store, direct = STORES[name]
        row["pooler"] = stores.pooler_version(name.split()[0])
        (folder / "pooler").mkdir()
        folder.chmod(0o755)
        stores.own(folder / "pooler")
        url = life.enter_context(start(folder / "pooler", database, mode))
        if name == "pgbouncer without store.pooler":
            return {**row, "start": refusal(url, folder)}
        options = []
        if name == "pgbouncer without direct_url":
            row["start that migrates through the pooler"] = refusal(url, folder, store)
            measurement.shell([measurement.GATEWAY, "migrate", "--store", database.url()], cwd=folder)
            options = ["--no-migrate"]
        return {**row, **used(life, folder, url, store, database.url() if direct else None, database, False, options)}


def main():
    names, _, given = measurement.asked(__doc__, STORES, "databases")
    failed = False
    for name in names:
        with tempfile.TemporaryDirectory(prefix="cloakroom-", ignore_cleanup_errors=True) as folder:
            try:
                cells = measure(name, pathlib.Path(folder), given.install)
            except (RuntimeError, OSError) as error:
                failed, cells = True, {"error": str(error)}
        measurement.told({"database": name, **cells}, given.json)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
