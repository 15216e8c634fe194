"""The `/v1` routes: read the request, hand it to the journey, write the answer; errors in the caller's dialect.

These are raw ASGI handlers: settlement must have run before the last byte leaves, which no dependency's clean-up or
`after_response` can promise.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, unquote

import msgspec
from litestar.handlers import ASGIRouteHandler, asgi
from litestar.types import Receive, Scope, Send

from app.base.addresses import Network, client_address
from app.base.errors import InternalError, InvalidField, TollgateError, TooLarge
from app.base.ids import new_request_id
from app.base.scopes import Scope as KeyScope
from app.proxy.counter import Counter
from app.proxy.issuing import Issuing
from app.proxy.journey import Headers, Journey, Visit
from app.proxy.own_key import OwnKey
from app.proxy.records import Model

__all__ = ["hot_paths", "make_door", "show_error"]

Handle = Callable[[Visit, "HttpReply", Scope], Awaitable[None]]

log = logging.getLogger("tollgate.door")

_encode = msgspec.json.Encoder().encode
_JSON = (b"content-type", b"application/json")
_NO_STORE = (b"cache-control", b"no-store")
_BEARER = "bearer "


def make_door(
    journey: Journey,
    counter: Counter,
    issuing: Issuing,
    own_key: OwnKey,
    max_body_bytes: int,
    trusted_proxies: Sequence[Network] = (),
) -> list[ASGIRouteHandler]:
    """The route handlers. Each path is served with and without `/v1`: clients are told both kinds of base URL."""

    def route(path: str, opens_to: KeyScope, handles: Mapping[str, Handle]) -> ASGIRouteHandler:
        """`handles` is by method; a path that ends with a slash is a mount. Only keys of the scope `opens_to` may."""
        path, is_mount = path.rstrip("/"), path.endswith("/")

        @asgi([f"/v1{path}", path], name=f"customer {path}", is_mount=is_mount, copy_scope=False)
        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            reply = HttpReply(receive, send)
            try:
                method = str(scope.get("method"))
                handle = handles.get(method)
                if handle is None:
                    raise _wrong_method(handles)
                key = _read_head(scope["headers"], max_body_bytes if method == "POST" else None)
                client = scope["client"]
                address = client[0] if client else ""
                if trusted_proxies:
                    address = client_address(address, _forwarded(scope["headers"]), trusted_proxies)
                read = partial(_read_body, receive, max_body_bytes)
                await handle(Visit(reply.request_id, key, address, opens_to, read), reply, scope)
            except TollgateError as error:
                await reply.error(error)
            except Exception:
                log.exception("request %s failed", reply.request_id)
                await reply.error(InternalError())
            finally:
                reply.close()

        return serve

    def chat(visit: Visit, reply: "HttpReply", _scope: Scope) -> Awaitable[None]:
        return journey.chat(visit, reply)

    async def models(visit: Visit, reply: "HttpReply", scope: Scope) -> None:
        if name := _rest_of_path(scope, "/models"):
            await reply.answer(200, [_JSON], _encode(_show_model(await journey.find_model(visit, name))))
            return
        shown = [_show_model(model) for model in await journey.list_models(visit)]
        await reply.answer(200, [_JSON], _encode({"object": "list", "data": shown}))

    async def receipt(visit: Visit, reply: "HttpReply", scope: Scope) -> None:
        request_id = _rest_of_path(scope, "/receipts")
        await reply.answer(200, [_JSON], _encode(await journey.find_receipt(visit, request_id)))

    async def redeem(visit: Visit, reply: "HttpReply", _scope: Scope) -> None:
        await reply.answer(200, [_JSON], _encode(await counter.redeem(visit)))

    async def subscription(visit: Visit, reply: "HttpReply", _scope: Scope) -> None:
        await reply.answer(200, [_JSON], _encode(await counter.subscription(visit)))

    async def usage(visit: Visit, reply: "HttpReply", scope: Scope) -> None:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        await reply.answer(200, [_JSON], _encode(await counter.usage(visit, query)))

    async def own(visit: Visit, reply: "HttpReply", _scope: Scope) -> None:
        await reply.answer(200, [_JSON, _NO_STORE], _encode(await own_key.show(visit)))

    return [
        route("/chat/completions", "chat", {"POST": chat}),
        route("/models/", "models", {"GET": models}),
        route("/receipts/", "receipts", {"GET": receipt}),
        route("/vouchers/redeem", "billing", {"POST": redeem}),
        route("/dashboard/billing/subscription", "billing", {"GET": subscription}),
        route("/dashboard/billing/usage", "billing", {"GET": usage}),
        route("/key", "key", {"GET": own}),
        route("/keys/", "keys", _issuing_handles(issuing)),
    ]


def _issuing_handles(issuing: Issuing) -> dict[str, Handle]:
    """By method."""

    async def issued(visit: Visit, reply: "HttpReply", scope: Scope) -> None:
        query = dict(parse_qsl(scope["query_string"].decode("latin-1")))
        await reply.answer(200, [_JSON], _encode(await issuing.list_issued(visit, query)))

    async def issue(visit: Visit, reply: "HttpReply", _scope: Scope) -> None:
        await reply.answer(201, [_JSON, _NO_STORE], _encode(await issuing.issue(visit)))

    async def revoke(visit: Visit, reply: "HttpReply", scope: Scope) -> None:
        await reply.answer(200, [_JSON], _encode(await issuing.revoke(visit, _rest_of_path(scope, "/keys"))))

    return {"GET": issued, "POST": issue, "DELETE": revoke}


def hot_paths(doors: list[ASGIRouteHandler]) -> dict[str, ASGIRouteHandler]:
    """The handlers that a server may call without any routing, by their whole path."""
    return {path: door for door in doors for path in door.paths if path.endswith("/chat/completions")}


class HttpReply:
    """The way back to one customer. A watch on their connection runs only while an answer is streamed."""

    def __init__(self, receive: Receive, send: Send) -> None:
        self.request_id = new_request_id()
        self.gone = False
        self._receive = receive
        self._send: Callable[[Any], Awaitable[None]] = send
        self._started = False
        self._watch: asyncio.Task[None] | None = None

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """A whole answer."""
        self._started = True
        length = (b"content-length", b"%d" % len(body))
        headers = [*headers, length, (b"x-request-id", self.request_id.encode())]
        # A worker's own server takes both messages in one; what stands between, such as CORS, knows the two.
        send_whole = getattr(getattr(self._send, "__self__", None), "send_whole", None)
        if send_whole is not None:
            await send_whole(status, headers, body)
            return
        await self._send(_start(status, headers))
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, headers: Headers) -> None:
        """The head of a stream."""
        self._started = True
        await self._send(_start(200, [*headers, (b"x-request-id", self.request_id.encode())]))

    async def write(self, data: bytes) -> None:
        await self._send({"type": "http.response.body", "body": data, "more_body": True})

    async def finish(self, data: bytes) -> None:
        """The last bytes of a stream."""
        self.close()
        await self._send({"type": "http.response.body", "body": data})

    def when_gone(self, call: Callable[[], None]) -> None:
        """Calls back once the customer has hung up."""
        self._watch = asyncio.create_task(self._wait_gone(call))

    async def error(self, error: TollgateError) -> None:
        """The error as OpenAI's clients read it. After a stream's head it can only be its last event."""
        if self._started:
            await self.finish(self.error_event(error))
            return
        close = [(b"connection", b"close")] if isinstance(error, TooLarge) else []
        await self.answer(error.status, [_JSON, *error.headers, *close], _encode(show_error(error)))

    def error_event(self, error: TollgateError) -> bytes:
        return b"data: " + _encode(show_error(error)) + b"\n\n"

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    async def _wait_gone(self, call: Callable[[], None]) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        call()


def _start(status: int, headers: Headers) -> dict[str, object]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def _read_head(headers: Iterable[tuple[bytes, bytes]], body_limit: int | None) -> str:
    """The customer's key, empty where none was sent. With a `body_limit`, refuses a body by what its headers say."""
    key = None
    for name, value in headers:
        if name == b"authorization":
            if key is None:
                sent = value.decode("latin-1")
                key = sent[len(_BEARER) :].strip() if sent[: len(_BEARER)].lower() == _BEARER else ""
        elif body_limit is None:
            continue
        elif name == b"content-length":
            if int(value) > body_limit:
                raise TooLarge(body_limit)
        elif name == b"content-encoding" and value.lower() != b"identity":
            raise InvalidField("content-encoding", "compressed request bodies are not accepted")
    return key or ""


async def _read_body(receive: Receive, limit: int) -> bytes:
    message: Any = await receive()
    body: bytes = message.get("body", b"")
    if not message.get("more_body", False):
        return _within(body, limit)
    parts = [body]
    size = len(body)
    while message.get("more_body", False):
        message = await receive()
        if message["type"] == "http.disconnect":
            raise InvalidField(None, "the connection was closed before the body was complete")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit:
            raise TooLarge(limit)
    return b"".join(parts)


def _within(body: bytes, limit: int) -> bytes:
    if len(body) > limit:
        raise TooLarge(limit)
    return body


def _rest_of_path(scope: Scope, after: str) -> str:
    """What follows a mount, with its slashes: names of models may have some."""
    return unquote(scope["raw_path"].decode("latin-1")).partition(after)[2].strip("/")


def _forwarded(headers: Iterable[tuple[bytes, bytes]]) -> list[str]:
    return [value.decode("latin-1") for name, value in headers if name == b"x-forwarded-for"]


def _wrong_method(methods: Iterable[str]) -> TollgateError:
    error = InvalidField(None, f"use {' or '.join(methods)} here")
    error.status = 405
    error.headers = ((b"allow", ", ".join(methods).encode()),)
    return error


def show_error(error: TollgateError) -> dict[str, object]:
    """As OpenAI's clients read it."""
    return {"error": {"message": error.message, "type": error.type, "code": error.code, "param": error.param}}


def _show_model(model: Model) -> dict[str, object]:
    """OpenAI's model object, with what customers need to choose."""
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_at_ms // 1000,
        "owned_by": "tollgate",
        "context_length": model.context_length,
        "max_output_tokens": model.max_output_tokens,
        "description": model.description,
    }
