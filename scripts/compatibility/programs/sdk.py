"""SDKs of PyPI: `sdk.py SDK BASE` makes one POST and prints what the caller gets."""

import json
import sys

sdk, base = sys.argv[1:]
NAME = {"name": "x"}


def stripe():
    from stripe import StripeClient

    return StripeClient("sk_test_x", base_addresses={"api": base}).v1.customers.create(params={"email": "a@example.com"})


def stripe_module():
    import stripe as library

    library.api_base, library.api_key = base, "sk_test_x"
    return library.Customer.create(email="a@example.com")


def modern_treasury():
    from modern_treasury import ModernTreasury

    return ModernTreasury(base_url=base, organization_id="o", api_key="k").counterparties.create(name="x")


def increase():
    from increase import Increase

    return Increase(api_key="k", base_url=base).accounts.create(name="x")


def svix():
    from svix.api import ApplicationIn, Svix, SvixOptions

    return Svix("token", SvixOptions(server_url=base)).application.create(ApplicationIn(name="x"))


def gocardless_pro():
    from gocardless_pro import Client

    return Client(access_token="t", base_url=base, environment="sandbox").customers.create(params={"email": "a@example.com"})


def mollie():
    from mollie.api.client import Client

    client = Client(api_endpoint=base)
    client.set_api_key("test_" + "x" * 30)
    return client.payments.create({"amount": {"currency": "EUR", "value": "1.00"}, "description": "x"})


def workos():
    from workos import WorkOSClient

    client = WorkOSClient(api_key="sk", client_id="c", base_url=base + "/")
    return client.organizations.create_organization(name="x")


def openai():
    from openai import OpenAI

    messages = [{"role": "user", "content": "x"}]
    return OpenAI(api_key="k", base_url=base).chat.completions.create(model="m", messages=messages)


def lithic():
    from lithic import Lithic

    return Lithic(api_key="k", base_url=base).cards.create(type="VIRTUAL")


def anthropic():
    from anthropic import Anthropic

    messages = [{"role": "user", "content": "x"}]
    return Anthropic(api_key="k", base_url=base).messages.create(max_tokens=1, messages=messages, model="m")


try:
    answer = globals()[sdk]()
    told = {"returned": type(answer).__name__, "id": str(getattr(answer, "id", None))}
except Exception as error:
    told = {"raised": type(error).__name__, "message": str(error)[:160]}
print(json.dumps(told))
