"""For tests that are rough with a gateway of their own."""

from collections.abc import Callable

import httpx

from tests.shop import MESSAGES, Customer, Shop

__all__ = ["OpenShop", "works", "works_everywhere"]

OpenShop = Callable[..., Shop]


def works(customer: Customer, model: str) -> bool:
    try:
        return customer.chat(model).status_code == 200
    except httpx.TransportError:
        return False


def works_everywhere(customer: Customer, model: str) -> bool:
    """On connections of their own, which spread over the workers."""
    body = {"model": model, "messages": MESSAGES}
    headers = {"Authorization": f"Bearer {customer.key}"}
    url = f"{customer.url}/v1/chat/completions"
    try:
        return all(httpx.post(url, json=body, headers=headers).status_code == 200 for _ in range(8))
    except httpx.TransportError:
        return False
