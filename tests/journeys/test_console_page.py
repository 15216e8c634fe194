"""The operator's page: everything it loads is here, and nothing else may run in it."""

import re

import httpx

from tests.shop import Shop

REFERENCES = re.compile(r"""(?:src|href)="([^"]+)"|from "\./([^"]+)\"""")


def loaded(http: httpx.Client, path: str) -> dict[str, httpx.Response]:
    """The page and all that it asks for, by path."""
    found: dict[str, httpx.Response] = {}
    waiting = [path]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found[path] = http.get(path)
        waiting += [plain or f"/console/{beside}" for plain, beside in REFERENCES.findall(found[path].text)]
    return found


def test_the_page_and_its_parts(shop: Shop) -> None:
    """Each is served as what it is, kept by no cache, and may run no script but its own."""
    with httpx.Client(base_url=shop.gateway.url) as http:
        parts = loaded(http, "/console")

    assert {"/console/page.css", "/console/page.js", "/console/core.js", "/console/channels.js"} <= set(parts)
    for path, answer in parts.items():
        assert answer.status_code == 200, path
        kind = {"css": "text/css", "js": "text/javascript"}.get(path.rpartition(".")[2], "text/html")
        assert answer.headers["content-type"].startswith(kind), path
        policy = answer.headers["content-security-policy"]
        assert "script-src 'self';" in policy
        assert answer.headers["cache-control"] == "no-store"
        assert "innerHTML" not in answer.text, "what is shown is set as text"


def test_no_name_leads_out(shop: Shop) -> None:
    for name in ("page.py", "nothing.js", "..%2fpage.py", "%2e%2e/page.py", "../page.html"):
        assert httpx.get(f"{shop.gateway.url}/console/{name}").status_code == 404, name


def test_what_the_page_asks_the_api_for(shop: Shop) -> None:
    """Every list that it draws at once is answered."""
    with httpx.Client(base_url=shop.gateway.url) as http:
        text = "".join(answer.text for answer in loaded(http, "/console").values())
    paths = set(re.findall(r"""["`](/[a-z-]+(?:/[a-z]+)?(?:\?limit=\d+)?)["`]""", text)) - {"/console/page.js"}
    assert {"/health/channels", "/accounts?limit=100", "/webhooks?limit=100", "/alerts?limit=20"} <= paths

    for path in paths:
        assert shop.operator.http.get(path).status_code in (200, 405), path
