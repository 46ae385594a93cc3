"""What bench/power-cut does between mounting its disk and putting it away."""

import collections
import fcntl
import http.client
import http.server
import json
import os
import random
import re
import struct
import subprocess
import sys
import threading
import time

gateway, folder, rounds, clients = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
disk, image = f"{folder}/disk", f"{folder}/image"

# EXT4_IOC_SHUTDOWN, without writing the journal first.
SHUTDOWN, WITHOUT_THE_JOURNAL = 0x8004587D, 2
PATIENCE = 60  # seconds


class Upstream(http.server.BaseHTTPRequestHandler):
    """Answers 201 and counts how often each operation arrived."""

    protocol_version = "HTTP/1.1"
    arrived = collections.Counter()

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        Upstream.arrived[self.headers["Operation-Id"]] += 1
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """Connections break off here: their other side is killed."""


class Gateway:
    """One process on the ledger of the disk."""

    def __init__(self, upstream):
        command = [gateway, "serve", "--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0"]
        command += ["--store", f"sqlite:{disk}/cloakroom.db", "--upstream", upstream, "--shared"]
        self.log = open(f"{folder}/log", "a")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self.log, text=True)
        for line in self.process.stdout:
            if found := re.search(r"listening on http://127\.0\.0\.1:(\d+)", line):
                self.port = int(found[1])
                break
        else:
            sys.exit(f"the gateway did not start: {open(f'{folder}/log').read()}")
        # What else it prints is read, so that it never waits for a reader.
        threading.Thread(target=self.process.stdout.read, daemon=True).start()

    def ask(self, connection, method, target, body=None, fields=None):
        connection.request(method, target, body, fields or {})
        answer = connection.getresponse()
        return answer, answer.read()

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.log.close()


def order(key):
    fields = {"Content-Type": "application/json", "Idempotency-Key": key, "Client-Reference": key}
    # Every tenth body is one of several pieces.
    padding = "x" * (300_000 if key.endswith("0") else 150)
    return json.dumps({"order": key, "padding": padding}), fields


def client(number, running, accepted, unanswered):
    """Posts without pause until the power is cut, and keeps every 202 that it has read."""
    sent, connection = 0, running.connect()
    while True:
        key = f"{running.round}-{number}-{sent}"
        sent += 1
        try:
            answer, body = running.ask(connection, "POST", "/orders", *order(key))
        except (OSError, http.client.HTTPException):
            unanswered.append(key)
            return
        if answer.status == 202:
            path = "/" + answer.getheader("Location").split("/", 3)[3]
            accepted[key] = (json.loads(body)["id"], path)
        else:
            unanswered.append(key)
            return


def cut():
    """Takes the disk away as a power cut does, right after a write that is not made durable."""
    with open(f"{disk}/witness", "w") as witness:
        witness.write(str(time.time()))
        witness.flush()
        folder_of_all = os.open(disk, os.O_RDONLY)
        fcntl.ioctl(folder_of_all, SHUTDOWN, struct.pack("I", WITHOUT_THE_JOURNAL))
        os.close(folder_of_all)


def mount_again():
    subprocess.run(["umount", disk], check=True)
    subprocess.run(["mount", "-o", "loop", image, disk], check=True)
    witness = f"{disk}/witness"
    gone = not os.path.exists(witness) or os.path.getsize(witness) == 0
    if not gone:
        sys.exit("what was not made durable is still there: this was no power cut")


def listed(running):
    """Every operation in the ledger, by its key."""
    connection, by_key = running.connect(), collections.defaultdict(list)
    target = "/-/operations?limit=200"
    while target:
        answer, body = running.ask(connection, "GET", target)
        page = json.loads(body)
        for document in page["operations"]:
            by_key[document["clientReference"]].append(document["id"])
        following = page["links"]["next"]
        target = following and "/" + following.split("/", 3)[3]
    return by_key


def settled(running, path):
    """Whether an operation is known, and comes to an end that its promise allows."""
    connection = running.connect()
    for _ in range(PATIENCE * 20):
        answer, body = running.ask(connection, "GET", f"{path}/status")
        if answer.status != 200:
            return False
        document = json.loads(body)
        if document["status"] in ("succeeded", "failed", "canceled"):
            error = document["error"] or {}
            return document["status"] == "succeeded" or error.get("code") == "outcome-unknown"
        time.sleep(0.05)
    return False


def main():
    upstream = Server(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{upstream.server_address[1]}"
    total = collections.Counter()
    running = Gateway(address)
    try:
        for number in range(rounds):
            running.round = number
            accepted, unanswered = {}, []
            threads = [
                threading.Thread(target=client, args=(n, running, accepted, unanswered))
                for n in range(clients)
            ]
            for thread in threads:
                thread.start()
            time.sleep(random.uniform(0.3, 1.5))
            cut()
            running.kill()
            for thread in threads:
                thread.join()
            mount_again()
            running = Gateway(address)
            lost = [key for key, (_, path) in accepted.items() if not settled(running, path)]
            by_key = listed(running)
            wrong = [key for key, (id, _) in accepted.items() if by_key.get(key) != [id]]
            wrong += [key for key in unanswered if len(by_key.get(key, [])) > 1]
            counts = {"accepted": len(accepted), "lost": len(lost), "wrong keys": len(wrong)}
            counts["stored without an answer"] = sum(key in by_key for key in unanswered)
            print(f"cut {number + 1}: {counts}", flush=True)
            total.update(counts)
    finally:
        running.kill()
    twice = sum(count > 1 for count in Upstream.arrived.values())
    print(f"cuts: {rounds}, {', '.join(f'{name}: {n}' for name, n in total.items())}, sent twice: {twice}")
    sys.exit(1 if total["lost"] or total["wrong keys"] or twice or not total["accepted"] else 0)


main()
