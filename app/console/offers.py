"""Channels and models: where answers come from, and what they are sold for."""

from typing import Annotated, Any
from urllib.parse import urlsplit

import msgspec
from litestar import Controller, Response, get, patch, post, put
from msgspec import UNSET, Meta, UnsetType

from app.base.clock import iso
from app.base.errors import InvalidField, NotFound
from app.catalog import offers
from app.catalog.pricing import FREE, Prices, parse_prices, show_prices
from app.catalog.records import Channel, Model, Timeouts
from app.console.office import Office, Page, page_cursor, page_limit, paged

__all__ = ["ChannelsController", "ModelsController"]

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Milliseconds = Annotated[int, Meta(ge=1, le=86_400_000)]


class NewTimeouts(msgspec.Struct, forbid_unknown_fields=True):
    connect_ms: Milliseconds | UnsetType = UNSET
    first_token_ms: Milliseconds | None | UnsetType = UNSET
    idle_ms: Milliseconds | UnsetType = UNSET
    total_ms: Milliseconds | UnsetType = UNSET


class ChannelChange(msgspec.Struct, forbid_unknown_fields=True):
    name: Name | UnsetType = UNSET
    provider: str | UnsetType = UNSET
    base_url: Annotated[str, Meta(max_length=2000)] | None | UnsetType = UNSET
    credentials: Annotated[list[Annotated[str, Meta(min_length=1)]], Meta(max_length=100)] | UnsetType = UNSET
    models: Annotated[dict[Name, Name], Meta(min_length=1, max_length=10_000)] | UnsetType = UNSET
    priority: Annotated[int, Meta(ge=-1_000_000, le=1_000_000)] | UnsetType = UNSET
    weight: Annotated[int, Meta(ge=0, le=1_000_000)] | UnsetType = UNSET
    costs: dict[str, Any] | None | UnsetType = UNSET
    timeouts: NewTimeouts | None | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class ChannelTest(msgspec.Struct, forbid_unknown_fields=True):
    """Which of the channel's models to ask; the first unless named."""

    model: str | None = None


class NewModel(msgspec.Struct, forbid_unknown_fields=True):
    context_length: Annotated[int, Meta(ge=1, le=2_000_000_000)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=100_000_000)] | None = None
    description: Annotated[str, Meta(max_length=10_000)] = ""
    fallbacks: Annotated[list[Name], Meta(max_length=20)] = []
    prices: dict[str, Any] | None = None
    free: bool = False


class ChannelsController(Controller):
    path = "/channels"

    @post()
    async def create(self, office: Office, data: ChannelChange) -> dict[str, Any]:
        values, costs = _columns(office, data), _costs(data)
        for name in ("name", "provider", "models"):
            if name not in values:
                raise InvalidField(name, "is required")
        default_url = office.default_base_urls[values["provider"]]
        if not values.get("base_url"):
            if default_url is None:
                raise InvalidField("base_url", f"is required: `{values['provider']}` has no address of its own")
            values["base_url"] = default_url
        blank = {
            "credentials": [],
            "priority": 0,
            "weight": 1,
            "timeouts": msgspec.to_builtins(Timeouts()),
            "enabled": True,
        }
        async with office.database.write() as db:
            channel = await offers.create_channel(db, office.sealer, {**blank, **values}, costs or {})
        await office.announce("catalog")
        return _show_channel(channel)

    @get()
    async def list_all(self, office: Office, cursor: str = "", limit: int | None = None) -> Page:
        most = page_limit(limit)
        async with office.database.read() as db:
            found = await offers.list_channels(db, office.sealer, page_cursor(cursor) or "", most + 1)
        page = paged(found, most, lambda channel: channel.id)
        page.items = [_show_channel(channel) for channel in page.items]
        return page

    @get("/{channel_id:str}")
    async def read(self, office: Office, channel_id: str) -> dict[str, Any]:
        async with office.database.read() as db:
            return _show_channel(_found(await offers.find_channel(db, office.sealer, channel_id), channel_id))

    @patch("/{channel_id:str}")
    async def change(self, office: Office, channel_id: str, data: ChannelChange) -> dict[str, Any]:
        async with office.database.write() as db:
            old = _found(await offers.find_channel(db, office.sealer, channel_id), channel_id)
            values = _columns(office, data, old)
            channel = await offers.update_channel(db, office.sealer, channel_id, values, _costs(data))
        await office.announce("catalog")
        return _show_channel(_found(channel, channel_id))

    @post("/{channel_id:str}/test", status_code=200)
    async def probe(self, office: Office, channel_id: str, data: ChannelTest | None = None) -> dict[str, Any]:
        """One tiny real request: its answer, its latency, its error."""
        async with office.database.read() as db:
            channel = _found(await offers.find_channel(db, office.sealer, channel_id), channel_id)
        model = (data.model if data else None) or next(iter(channel.models))
        if model not in channel.models:
            raise InvalidField("model", "is not served by this channel")
        return await office.probe_channel(channel, model)


class ModelsController(Controller):
    path = "/models"

    @put("/{name:path}")
    async def replace(self, office: Office, name: str, data: NewModel) -> Response[dict[str, Any]]:
        values = msgspec.structs.asdict(data)
        prices = _sale_prices(data)
        del values["prices"], values["free"]
        async with office.database.write() as db:
            model, is_new = await offers.put_model(db, name.strip("/"), values, prices)
        await office.announce("catalog")
        return Response(_show_model(model), status_code=201 if is_new else 200)

    @get()
    async def list_all(self, office: Office, cursor: str = "", limit: int | None = None) -> Page:
        most = page_limit(limit)
        async with office.database.read() as db:
            found = await offers.list_models(db, cursor, most + 1)
        page = paged(found, most, lambda model: model.name)
        page.items = [_show_model(model) for model in page.items]
        return page

    @get("/{name:path}")
    async def read(self, office: Office, name: str) -> dict[str, Any]:
        async with office.database.read() as db:
            model = await offers.find_model(db, name.strip("/"))
        if model is None:
            raise NotFound(f"There is no model `{name.strip('/')}`.")
        return _show_model(model)


def _found(channel: Channel | None, channel_id: str) -> Channel:
    if channel is None:
        raise NotFound(f"There is no channel `{channel_id}`.")
    return channel


def _columns(office: Office, change: ChannelChange, old: Channel | None = None) -> dict[str, Any]:
    """The columns that a change sets. Raises InvalidField."""
    values: dict[str, Any] = {}
    for name in ("name", "provider", "credentials", "models", "priority", "weight", "enabled"):
        sent = getattr(change, name)
        if sent is not UNSET:
            values[name] = sent
    if "provider" in values and values["provider"] not in office.default_base_urls:
        raise InvalidField("provider", f"must be one of {', '.join(office.default_base_urls)}")
    if change.base_url is not UNSET and change.base_url is not None:
        values["base_url"] = _checked_url(change.base_url)
    if change.timeouts is not UNSET:
        timeouts = (old.timeouts if old else None) or Timeouts()
        sent = {} if change.timeouts is None else msgspec.to_builtins(change.timeouts)
        values["timeouts"] = {**msgspec.to_builtins(timeouts), **sent}
    return values


def _costs(change: ChannelChange) -> dict[str, Prices] | None:
    """By upstream name; None where the change leaves them as they are. Raises InvalidField."""
    if change.costs is UNSET:
        return None
    return {name: parse_prices(prices, f"costs.{name}") for name, prices in (change.costs or {}).items()}


def _sale_prices(model: NewModel) -> Prices | None:
    """None: it is not sold. Raises InvalidField."""
    if model.free and model.prices is not None:
        raise InvalidField("free", "can't be together with `prices`")
    if model.free:
        return FREE
    return None if model.prices is None else parse_prices(model.prices, "prices")


def _checked_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InvalidField("base_url", "must be an http or https address without a query")
    if parts.username or parts.password:
        raise InvalidField("base_url", "must not carry a user or a password; use `credentials`")
    return url


def _show_channel(channel: Channel) -> dict[str, Any]:
    """Everything but the credentials: those are counted."""
    return {
        "id": channel.id,
        "name": channel.name,
        "provider": channel.provider,
        "base_url": channel.base_url,
        "credentials": len(channel.credentials),
        "models": channel.models,
        "priority": channel.priority,
        "weight": channel.weight,
        "costs": {name: show_prices(cost.prices) for name, cost in channel.costs.items()},
        "cost_versions": {name: cost.version for name, cost in channel.costs.items()},
        "timeouts": msgspec.to_builtins(channel.timeouts),
        "enabled": channel.enabled,
        "created_at": iso(channel.created_at_ms),
    }


def _show_model(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "context_length": model.context_length,
        "max_output_tokens": model.max_output_tokens,
        "description": model.description,
        "fallbacks": model.fallbacks,
        "prices": None if model.prices is None else show_prices(model.prices),
        "price_version": model.price_version,
        "free": model.free,
        "created_at": iso(model.created_at_ms),
    }
