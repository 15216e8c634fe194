"""What every call over one credential of a channel has in common: its address, headers, rules and way there. Made once,
and kept until an operator changes something of it."""

from collections.abc import Mapping

import msgspec

from app.base.priced_fields import LimitField
from app.base.receipt import NO_EXTRAS
from app.catalog.records import Channel, Credential
from app.proxy.extras import dropped_fields
from app.proxy.records import Order, Pick
from app.proxy.relay.dialects.openai_chat import write_request
from app.proxy.relay.providers import PROVIDERS, Provider, endpoint
from app.proxy.relay.shaping import BodyRules, read_rules
from app.proxy.relay.upstream import Call, Reach, Route, Transport

__all__ = ["Line", "Lines", "line_of"]


class Line(msgspec.Struct, frozen=True):
    provider: Provider
    channel: Channel
    rules: BodyRules | None
    route: Route
    limit_field: LimitField

    def write(self, order: Order) -> Call:
        body = write_request(
            order,
            self.channel.models[order.model],
            usage_in_streams=self.provider.usage_in_streams,
            requires_max_tokens=self.provider.requires_max_tokens,
            limit_field=self.limit_field,
            dropped=() if order.extras is NO_EXTRAS else dropped_fields(order, self.channel),
            shape=None if self.rules is None else self.rules.apply,
        )
        return Call(self.route, body)


class Lines:
    """Those in use, by channel and credential. `transport` reaches real vendors, `sandbox` the built-in one."""

    def __init__(self, transport: Transport, sandbox: Transport) -> None:
        self._transport = transport
        self._sandbox = sandbox
        self._known: dict[str, tuple[Channel, dict[str, Line]]] = {}

    def call(self, order: Order, pick: Pick) -> tuple[Transport, Call]:
        line = self._line(pick.channel, pick.credential)
        return self._sandbox if line.provider.is_sandbox else self._transport, line.write(order)

    async def close(self) -> None:
        await self._transport.close()

    def _line(self, channel: Channel, credential: Credential) -> Line:
        owner, lines = self._known.get(channel.id, (None, {}))
        if owner is not channel:  # the catalogue was read anew
            if owner != channel:
                lines = _carried(channel, lines)
            self._known[channel.id] = (channel, lines)
        line = lines.get(credential.id)
        if line is None:
            line = lines[credential.id] = line_of(channel, credential)
        return line


def line_of(channel: Channel, credential: Credential) -> Line:
    provider, shaping = PROVIDERS[channel.provider], channel.shaping
    route = Route(
        url=endpoint(channel.base_url),
        headers=_headers(provider, channel, credential),
        timeouts=channel.timeouts,
        reach=Reach(channel.timeouts.connect_ms, shaping.proxy, shaping.tls, shaping.http2),
    )
    limit_field = channel.limit_field or provider.limit_field
    return Line(provider, channel, read_rules(shaping.params, provider.refuses), route, limit_field)


def _carried(channel: Channel, lines: Mapping[str, Line]) -> dict[str, Line]:
    """The lines of a channel that has changed. A route that is the same stays, and with it its connections."""
    carried = {}
    for credential in channel.ways:
        line = line_of(channel, credential)
        old = lines.get(credential.id)
        if old is not None and old.route.same(line.route):
            line = msgspec.structs.replace(line, route=old.route)
        carried[credential.id] = line
    return carried


def _headers(provider: Provider, channel: Channel, credential: Credential) -> dict[str, str]:
    """In lower case, as rules name them."""
    shaping, rules = channel.shaping, channel.shaping.headers
    headers = {"content-type": "application/json"}
    if provider.organization_header is not None and shaping.organization is not None:
        headers[provider.organization_header] = shaping.organization
    if provider.project_header is not None and shaping.project is not None:
        headers[provider.project_header] = shaping.project
    if credential.secret is not None:
        headers[provider.auth_header] = provider.auth_prefix + credential.secret.reveal()
    shaped = {**rules.default, **headers, **rules.set}
    return {name: value for name, value in shaped.items() if name not in rules.drop}
