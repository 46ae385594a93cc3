"""Client libraries of PyPI that poll: `poll.py CLIENT BASE PATH` posts and prints what the caller gets."""

import asyncio
import json
import subprocess
import sys
import time
import urllib.parse

BODY = {"sku": "A-1"}


def outcome(response):
    """What a poller of Azure hands to the code that makes an object of an answer."""
    answer = response.http_response
    return {"status": answer.status_code, "body": answer.text()[:120]}


def azure(base, path, polling):
    from azure.core import PipelineClient
    from azure.core.pipeline.policies import RedirectPolicy, RequestIdPolicy, RetryPolicy
    from azure.core.polling import LROPoller
    from azure.core.rest import HttpRequest

    client = PipelineClient(base, policies=[RequestIdPolicy(), RedirectPolicy(), RetryPolicy()])
    first = client._pipeline.run(HttpRequest("POST", base + path, json=BODY))
    return LROPoller(client, first, outcome, polling(30)).result(timeout=60)


async def azure_async(base, path, polling):
    from azure.core import AsyncPipelineClient
    from azure.core.pipeline.policies import AsyncRedirectPolicy, AsyncRetryPolicy, RequestIdPolicy
    from azure.core.polling import AsyncLROPoller
    from azure.core.rest import HttpRequest

    async with AsyncPipelineClient(base, policies=[RequestIdPolicy(), AsyncRedirectPolicy(), AsyncRetryPolicy()]) as client:
        first = await client._pipeline.run(HttpRequest("POST", base + path, json=BODY))
        return await AsyncLROPoller(client, first, outcome, polling(30)).result()


def arm(base, path):
    from azure.mgmt.core.polling.arm_polling import ARMPolling

    return azure(base, path, ARMPolling)


def arm_async(base, path):
    from azure.mgmt.core.polling.async_arm_polling import AsyncARMPolling

    return asyncio.run(azure_async(base, path, AsyncARMPolling))


def core(base, path):
    from azure.core.polling.base_polling import LROBasePolling

    return azure(base, path, LROBasePolling)


def core_async(base, path):
    from azure.core.polling.async_base_polling import AsyncLROBasePolling

    return asyncio.run(azure_async(base, path, AsyncLROBasePolling))


def msrest(base, path):
    from msrest import Configuration, ServiceClient
    from msrest.polling import LROPoller
    from msrestazure.polling.arm_polling import ARMPolling

    client = ServiceClient(None, Configuration(base))
    fields = {"Content-Type": "application/json", "x-ms-client-request-id": "1"}
    request = client.post(base + path, headers=fields, content=BODY)
    first = client.send(request, stream=False)
    told = lambda response: {"status": response.status_code, "body": response.text[:120]}
    return LROPoller(client, first, told, ARMPolling(30)).result(timeout=60)


def sushy(base, path):
    from sushy import connector, taskmonitor

    library = connector.Connector(base)
    monitor = taskmonitor.TaskMonitor.from_response(library, library.post(path, data=BODY), path)
    while monitor.check_is_processing:
        time.sleep(2)
    return {"status": monitor.response.status_code, "body": monitor.response.text[:120]}


def redfish(base, path):
    import redfish as library

    client = library.redfish_client(base_url=base, username="u", password="p")
    first = client.post(path, body=BODY)
    place = urllib.parse.urlparse(first.task_location).path
    answer = client.get(place)
    while answer.is_processing:
        time.sleep(2)
        answer = client.get(place)
    return {"status": answer.status, "body": answer.text[:120]}


def redfish_monitor(base, path):
    import redfish as library

    client = library.redfish_client(base_url=base, username="u", password="p")
    answer = client.post(path, body=BODY).monitor(client)
    return {"status": answer.status, "body": answer.text[:120]}


PLAYBOOK = """- hosts: localhost
  gather_facts: false
  tasks:
    - uri: {{ url: "{base}{path}", method: POST, body_format: json, body: {{ sku: A-1 }}, status_code: 202 }}
      register: first
    - uri: {{ url: "{{{{ first.location }}}}", status_code: [200, 202], return_content: true }}
      register: r
      until: r.status not in [202, -1]
      retries: 30
      delay: 2
"""


def ansible(base, path):
    with open("playbook.yaml", "w") as file:
        file.write(PLAYBOOK.format(base=base, path=path))
    program = sys.executable.rsplit("/", 1)[0] + "/ansible-playbook"
    done = subprocess.run([program, "-v", "playbook.yaml"], capture_output=True, text=True)
    last = [line for line in done.stdout.splitlines() if line.startswith(("ok:", "fatal:"))][-1]
    told = json.loads(last.partition("=> ")[2])
    return {"failed": last.startswith("fatal"), "status": told.get("status"), "body": str(told.get("json", ""))[:120]}


def openeo(base, path):
    import openeo as library

    return str(library.connect(base).create_job({"add": {"process_id": "add", "arguments": {}, "result": True}}))


def owslib(base, path):
    from owslib.ogcapi.processes import Processes

    client = Processes(base)
    answer = client.execute("hello", inputs={"name": "x"}, async_=True)
    return {"returned": str(answer)[:120], "Location": client.response_headers.get("Location", "")[:60]}


def google(base, path):
    import requests
    from google.api_core import operation
    from google.protobuf.empty_pb2 import Empty

    document = requests.post(base + path, json=BODY, timeout=10).json()
    ask = lambda **_: requests.get(base + path, timeout=10).json()
    return str(operation.from_http_json(document, ask, Empty).result(timeout=20))


def fhirpy(base, path):
    from fhirpy import SyncFHIRClient

    patient = SyncFHIRClient(base + "/fhir").resource("Patient", name=[{"family": "x"}])
    patient.save()
    return {"id": patient.get("id"), "resource": json.dumps(patient.serialize())[:120]}


def fhirclient(base, path):
    from fhirclient import client as library
    from fhirclient.models.patient import Patient

    smart = library.FHIRClient(settings={"app_id": "x", "api_base": base + "/fhir"})
    smart.prepare()
    return str(Patient({"active": True}).create(smart.server))[:160]


def main():
    client, base, path = sys.argv[1:]
    try:
        told = {"returned": globals()[client.replace("-", "_")](base, path)}
    except BaseException as error:
        told = {"raised": type(error).__name__, "message": str(error)[:200]}
        response = getattr(error, "response", None)
        for name in ("status_code", "status"):
            for source in (error, response):
                if isinstance(getattr(source, name, None), int):
                    told.setdefault("status", getattr(source, name))
        inner = getattr(error, "error", None)
        if getattr(inner, "code", None):
            told["code"] = inner.code
    print(json.dumps(told, default=str))


main()
