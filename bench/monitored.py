"""How long a client waits for the end of operations that their upstream monitors.

`monitored.py upstreams` serves two upstreams and prints their URLs. The healthy one answers 202 and
is done a second later; the silent one answers 202 and its monitor never answers.
`monitored.py silent GATEWAY UPSTREAM COUNT` posts so many operations to the silent one, and waits until it
was asked for as many as the gateway asks for at once.
`monitored.py offer GATEWAY RATE SECONDS` posts operations to the healthy one by the clock, waits at
the monitor of each, and prints one line of `name=value`.
"""

import asyncio
import itertools
import sys
import time

TAKES = 1.0  # seconds that the healthy upstream works on each
PATIENCE = 120.0


def parse(head):
    first, *fields = head.decode("latin-1").split("\r\n")
    pairs = (field.partition(":") for field in fields if field)
    return first.split(" "), {name.lower(): value.strip() for name, _, value in pairs}


async def exchanged(reader):
    """The first line, the fields and the body of a message."""
    first, fields = parse(await reader.readuntil(b"\r\n\r\n"))
    body = await reader.readexactly(int(fields.get("content-length", 0)))
    return first, fields, body


def answer(status, fields="", body=""):
    head = f"HTTP/1.1 {status} Yes\r\nContent-Length: {len(body)}\r\n{fields}\r\n"
    return (head + body).encode()


# ------------------------------------------------------------------------------- upstreams
def healthy():
    begun = {}

    async def serve(reader, writer):
        try:
            while True:
                (method, target, _), _, _ = await exchanged(reader)
                if method == "POST":
                    number = len(begun)
                    begun[f"/jobs/{number}"] = time.monotonic()
                    fields = f"Location: /jobs/{number}\r\nRetry-After: 1\r\n"
                    writer.write(answer(202, fields))
                elif time.monotonic() - begun[target] < TAKES:
                    writer.write(answer(202, "Retry-After: 1\r\n"))
                else:
                    writer.write(answer(200, "Content-Type: text/plain\r\n", "done"))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return serve


def silent():
    numbers = itertools.count()
    asked = set()

    async def serve(reader, writer):
        try:
            while True:
                (method, target, _), _, _ = await exchanged(reader)
                if target == "/asked":
                    writer.write(answer(200, "", str(len(asked))))
                elif method == "POST":
                    fields = f"Location: /silent/jobs/{next(numbers)}\r\nRetry-After: 1\r\n"
                    writer.write(answer(202, fields))
                else:
                    asked.add(target)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    return serve


async def upstreams():
    servers = [await asyncio.start_server(of(), "127.0.0.1", 0) for of in (healthy, silent)]
    for name, server in zip(("healthy", "silent"), servers):
        print(f"{name} listening on http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


# ------------------------------------------------------------------------------- the client
async def sent(gateway, method, target, fields=""):
    host, port = gateway.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    body = "{}" if method == "POST" else ""
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Content-Length: {len(body)}\r\nConnection: close\r\n{fields}\r\n{body}".encode())
    (_, status, *_), fields, body = await exchanged(reader)
    writer.close()
    return int(status), fields, body


async def posted(gateway, target):
    status, fields, body = await sent(gateway, "POST", target)
    assert status == 202, (status, body)
    return fields["location"].removeprefix(gateway)


async def ended(gateway, begun):
    """Posts one, and how long it takes until its monitor leads to its result."""
    monitor = await posted(gateway, "/jobs")
    while True:
        status, fields, body = await sent(gateway, "GET", monitor, "Prefer: wait=30\r\n")
        if status == 303:
            return time.monotonic() - begun
        assert status == 202, (status, body)
        assert time.monotonic() - begun < PATIENCE, "it never ends"


async def offer(gateway, rate, seconds):
    start = time.monotonic()
    under_way = []
    for number in range(int(rate * seconds)):
        due = start + number / rate
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        under_way.append(asyncio.create_task(ended(gateway, due)))
    took = sorted(await asyncio.gather(*under_way))
    of = lambda share: took[min(len(took) - 1, int(share * len(took)))]
    print(f"count={len(took)} p50_ms={of(0.5) * 1e3:.0f} p99_ms={of(0.99) * 1e3:.0f} max_ms={took[-1] * 1e3:.0f}")


async def make_silent(gateway, upstream, count):
    for _ in range(count):
        await posted(gateway, "/silent/jobs")
    until = time.monotonic() + PATIENCE
    while True:
        asked = int((await sent(upstream, "GET", "/asked"))[2])
        if asked >= min(count, 64):
            break
        assert time.monotonic() < until, f"only {asked} monitors were asked"
        await asyncio.sleep(0.2)
    print(f"posted={count} asked={asked}")


match sys.argv[1:]:
    case ["upstreams"]:
        asyncio.run(upstreams())
    case ["silent", gateway, upstream, count]:
        asyncio.run(make_silent(gateway, upstream, int(count)))
    case ["offer", gateway, rate, seconds]:
        asyncio.run(offer(gateway, float(rate), float(seconds)))
    case _:
        sys.exit(__doc__)
