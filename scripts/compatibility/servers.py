#!/usr/bin/env python3
"""Measures what application servers do to the requests that cloakroom sends them.

    scripts/compatibility/servers.py --install             all of them, some 40 minutes
    scripts/compatibility/servers.py --install puma        this one
    scripts/compatibility/servers.py --json                one object for each server, a line each

The gateway stands before each server with a route at most once (`amo`) and one at least once (`alo`,
three attempts, eight seconds each). Measured: answers that come before the body was read; answers that
break off; 150 fields; a 205; connections that the server closes when they were idle for a second; a
graceful reload under load; for three servers, what they do when time or places run out.
"""

import collections
import concurrent.futures
import http.client
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time

import measurement
from upstreams import PROGRAMS, SERVERS

ROUTES = """max_in_flight = 32
connect_timeout = "2s"
[[routes]]
match = "POST /amo/{what}"
timeout = "8s"
retry = { attempts = 3, min = "100ms", max = "1s" }
[[routes]]
match = "POST /alo/{what}"
delivery = "at-least-once"
timeout = "8s"
retry = { attempts = 3, min = "100ms", max = "1s" }
"""
EXTRAS = {"gunicorn --timeout 1", "gunicorn --backlog 1", "uvicorn --limit-concurrency 4"}


def operate(port, path, body=b"{}"):
    """Posts to an asynchronous route, waits for the end, and gives the operation's document."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/octet-stream"})
        answer = connection.getresponse()
        document = json.loads(answer.read())
        if answer.status != 202:
            raise RuntimeError(f"{path} was answered {answer.status}: {document}")
        status = answer.headers["Operation-Location"].split("/", 3)[3]
        end = time.monotonic() + 30
        while document["status"] not in ("succeeded", "failed", "canceled") and time.monotonic() < end:
            time.sleep(0.03)
            connection.request("GET", f"/{status}")
            document = json.loads(connection.getresponse().read())
        return document
    finally:
        connection.close()


def fate(document):
    """How an operation ended, in a word or three."""
    if document["status"] == "failed":
        code = document["error"]["code"]
        more = document["responseStatus"] if code == "upstream-status" else document["error"].get("cause")
        return f"{code} {more}" if more else code
    return document["status"]


def many(port, jobs, width=6):
    """The documents of many operations at once, and how they ended."""
    with concurrent.futures.ThreadPoolExecutor(width) as pool:
        documents = list(pool.map(lambda job: operate(port, *job), jobs))
    return documents, dict(collections.Counter(map(fate, documents)))


def early(port):
    """36 POSTs of 0.3, 2 and 12 MB in either delivery whose answer comes before the body was read."""
    row = {}
    for delivery in ("amo", "alo"):
        jobs = [(f"/{delivery}/early", b"x" * size) for size in (300_000, 2_000_000, 12_000_000) for _ in range(12)]
        documents, fates = many(port, jobs)
        row[delivery] = {**fates, "attempts too many": sum(one["attempts"] for one in documents) - len(documents)}
    _, row["413"] = many(port, [("/amo/refuse", b"x" * size) for size in (2_000_000, 12_000_000) for _ in range(6)])
    return row


def told(port, what):
    """The fate of one operation in each delivery, with attempts."""
    documents = {delivery: operate(port, f"/{delivery}/{what}") for delivery in ("amo", "alo")}
    return {name: f"{fate(one)}, {one['attempts']} attempts" if one["attempts"] > 1 else fate(one) for name, one in documents.items()}


def idle(port):
    """30 POSTs at most once, each a second, give or take 12 ms, after the last one's end."""
    fates = collections.Counter()
    for n in range(30):
        fates[fate(operate(port, "/amo/slow"))] += 1
        time.sleep(1.0 - 0.012 + 0.0008 * n)
    return dict(fates)


def executions(file):
    """How often each operation was carried out, by id."""
    return collections.Counter(file.read_text().split()) if file.exists() else {}


def counted(documents, fates, file):
    """How operations ended; of those that did not succeed, how many were carried out; how many twice."""
    done = executions(file)
    lost = [one for one in documents if one["status"] != "succeeded"]
    return {**fates, "of the others carried out": sum(done[one["id"]] > 0 for one in lost),
            "carried out twice": sum(done[one["id"]] > 1 for one in documents)}


def reload(port, program, name, delivery, file):
    """120 POSTs while the server gets its signal three times."""
    jobs = [(f"/{delivery}/slow",)] * 120
    signals = [threading.Timer(after, send, (program, name)) for after in (0.7, 1.9, 3.1)]
    for one in signals:
        one.start()
    documents, fates = many(port, jobs, 6)
    for one in signals:
        one.join()
    return counted(documents, fates, file)


def send(program, name):
    """Sends the signal to the server itself, which a shell may have become."""
    os.kill(program.pid, getattr(signal, f"SIG{name}"))


def measure(name, server, folder):
    port, executed = measurement.free_port(), folder / "executed"
    env = {"EXECUTED": str(executed), "PYTHONPATH": str(PROGRAMS),
           "PAUSE": "3" if "--timeout" in name else "0.5" if name in EXTRAS else "0.2"}
    folder.chmod(0o777)
    executed.touch()
    executed.chmod(0o666)
    row = {}
    trust = measurement.certified(folder) if server.tls else {}
    upstream = f"https://127.0.0.1:{port}" if server.tls else port
    with measurement.running(server.argv(folder, port), folder, port, env) as program:
        with measurement.gateway(folder, upstream, ROUTES, env=trust) as gateway:
            if name in EXTRAS:
                for delivery in ("amo", "alo"):
                    documents, fates = many(gateway, [(f"/{delivery}/slow",)] * (4 if "timeout" in name else 30), 30)
                    row[delivery] = counted(documents, fates, executed)
                return row
            # What listens may stand before an application that does not yet.
            measurement.until(lambda: operate(gateway, "/alo/empty")["status"] == "succeeded", "the application did not answer")
            for what in ("cut", "cut-length", "fields", "empty"):
                row[what] = told(gateway, what)
            if server.idle:
                row["idle"] = idle(gateway)
            if server.reload:
                for delivery in ("amo", "alo"):
                    row[f"reload {delivery}"] = reload(gateway, program, server.reload, delivery, executed)
            # The last, since answers that are lost one after the other make the gateway pause.
            row["early"] = early(gateway)
    return row


def version(server):
    done = subprocess.run([str(one) for one in server.version], capture_output=True, text=True)
    return " ".join((done.stdout + done.stderr).strip().splitlines()[:1])


def main():
    names, chosen, given = measurement.asked(__doc__, SERVERS, "servers")
    failed = False
    for name in names:
        server = SERVERS[name]
        try:
            if given.install:
                server.install()
            with tempfile.TemporaryDirectory(prefix="cloakroom-", ignore_cleanup_errors=True) as folder:
                cells = measure(name, server, pathlib.Path(folder))
            row = {"server": name, "version": version(server), **cells}
        except (RuntimeError, OSError) as error:
            failed, row = True, {"server": name, "error": str(error)}
            if isinstance(error, FileNotFoundError):
                print(f"{name}: not installed (--install)", file=sys.stderr)
        measurement.told(row, given.json)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
