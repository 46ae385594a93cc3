"""HTTP clients of PyPI and Python: `send.py CLIENT MODE URL`; `clients.py` says what the modes are."""

import asyncio
import json
import ssl
import sys

client, mode, url = sys.argv[1:]
BODY = b'{"sku": "A-1"}'
FIELDS = {"Content-Type": "application/json"}
OWN = {"Authorization": "Basic eDp5", "Prefer": "wait=1", "Accept": "application/json", "X-Own": "1", "Idempotency-Key": "k"}
if mode == "expect":
    FIELDS["Expect"] = "202-accepted"
if mode in ("redirect", "follow"):
    FIELDS |= OWN
WARM, METHOD = mode == "reused", "GET" if mode == "follow" else "POST"
CONTENT = None if mode == "follow" else BODY
INSECURE = ssl._create_unverified_context()


def requests():
    import requests as library

    library.packages.urllib3.disable_warnings()
    with library.Session() as session:
        session.verify = False
        if WARM:
            session.get(url.rsplit("/", 1)[0] + "/warm")
        return session.request(METHOD, url, data=CONTENT, headers=FIELDS, timeout=25).status_code


def httpx(http2=False):
    import httpx as library

    with library.Client(verify=False, http2=http2, follow_redirects=True, timeout=25) as session:
        if WARM:
            session.get(url.rsplit("/", 1)[0] + "/warm")
        return session.request(METHOD, url, content=CONTENT, headers=FIELDS).status_code


def httpx_h2():
    return httpx(http2=True)


def urllib3():
    import urllib3 as library

    library.disable_warnings()
    pool = library.PoolManager(cert_reqs="CERT_NONE", timeout=25)
    if WARM:
        pool.request("GET", url.rsplit("/", 1)[0] + "/warm")
    return pool.request(METHOD, url, body=CONTENT, headers=FIELDS).status


def urllib():
    import urllib.request

    request = urllib.request.Request(url, data=CONTENT, headers=FIELDS, method=METHOD)
    with urllib.request.urlopen(request, timeout=25, context=INSECURE if url.startswith("https") else None) as answer:
        return answer.status


def aiohttp():
    import aiohttp as library

    async def run():
        async with library.ClientSession(connector=library.TCPConnector(ssl=False)) as session:
            if WARM:
                async with session.get(url.rsplit("/", 1)[0] + "/warm") as answer:
                    await answer.read()
            async with session.request(METHOD, url, data=CONTENT, headers=FIELDS) as answer:
                return answer.status

    return asyncio.run(asyncio.wait_for(run(), 25))


try:
    told = {"status": globals()[client.replace("-", "_")]()}
except Exception as error:
    told = {"status": getattr(error, "code", None), "raised": type(error).__name__, "message": str(error)[:120]}
print(json.dumps(told))
