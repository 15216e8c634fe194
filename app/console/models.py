"""Models: what answers are sold as, for how much, and how their channels are chosen."""

from typing import Annotated, Any, Literal

import msgspec
from litestar import Controller, Response, get, put
from msgspec import Meta

from app.base.clock import iso
from app.base.errors import InvalidField, NotFound
from app.catalog import offers
from app.catalog.pricing import FREE, Prices, parse_prices, show_prices
from app.catalog.records import Media, Model, Strategy, VendorLimits
from app.console.limit_fields import LimitFields, limits_of, show_limits
from app.console.office import Office, Page, page_limit, paged

__all__ = ["ModelFields", "ModelsController", "columns_of_model", "sale_prices_of", "show_model"]

Name = Annotated[str, Meta(min_length=1, max_length=200)]
Milliseconds = Annotated[int, Meta(ge=1, le=3_600_000)]
PartTokens = Annotated[int, Meta(ge=0, le=100_000_000)]


class RoutingFields(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """See `app.catalog.records.Routing`."""

    strategy: Strategy = "weighted"
    sticky: Literal["auto", "on", "off"] = "auto"
    attempts: Annotated[int, Meta(ge=1, le=100)] | None = None
    deadline_ms: Milliseconds | None = None
    hedge_ms: Milliseconds | None = None
    retries: Annotated[int, Meta(ge=0, le=5)] = 0
    context_fallbacks: Annotated[list[Name], Meta(max_length=20)] = []


class TotalFields(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """Null or 0: no limit."""

    rpm: Annotated[int, Meta(ge=0, le=10_000_000)] | None = None
    tpm: Annotated[int, Meta(ge=0, le=1_000_000_000_000)] | None = None
    concurrency: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None


class ImageFields(msgspec.Struct, forbid_unknown_fields=True):
    """See `app.catalog.records.ImageTokens`."""

    low: PartTokens
    high: PartTokens


class MediaFields(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """The most tokens that one part of each kind can cost. Null: the model takes no such part; but an image, and audio
    that is sent with its data, have bounds that hold for every model."""

    image: PartTokens | ImageFields | None = None
    audio: PartTokens | None = None
    file: PartTokens | None = None
    video: PartTokens | None = None


class ModelFields(msgspec.Struct, forbid_unknown_fields=True):
    context_length: Annotated[int, Meta(ge=1, le=2_000_000_000)] | None = None
    max_output_tokens: Annotated[int, Meta(ge=1, le=100_000_000)] | None = None
    description: Annotated[str, Meta(max_length=10_000)] = ""
    fallbacks: Annotated[list[Name], Meta(max_length=20)] = []
    routing: RoutingFields | None = None
    limits: LimitFields | None = None  # of each account's use of it
    total_limits: TotalFields | None = None  # of all accounts together
    media: MediaFields | None = None
    prices: dict[str, Any] | None = None
    free: bool = False


class ModelsController(Controller):
    path = "/models"

    @put("/{name:path}")
    async def replace(self, office: Office, name: str, data: ModelFields) -> Response[dict[str, Any]]:
        values, prices = columns_of_model(data), sale_prices_of(data)
        async with office.database.write() as db:
            model, is_new = await offers.put_model(db, name.strip("/"), values, prices)
        await office.announce("catalog")
        return Response(show_model(model), status_code=201 if is_new else 200)

    @get()
    async def list_all(self, office: Office, cursor: str = "", limit: int | None = None) -> Page:
        most = page_limit(limit)
        async with office.database.read() as db:
            found = await offers.list_models(db, cursor, most + 1)
        page = paged(found, most, lambda model: model.name)
        page.items = [show_model(model) for model in page.items]
        return page

    @get("/{name:path}")
    async def read(self, office: Office, name: str) -> dict[str, Any]:
        async with office.database.read() as db:
            model = await offers.find_model(db, name.strip("/"))
        if model is None:
            raise NotFound(f"There is no model `{name.strip('/')}`.")
        return show_model(model)


def columns_of_model(fields: ModelFields) -> dict[str, Any]:
    """All but its prices."""
    return {
        "context_length": fields.context_length,
        "max_output_tokens": fields.max_output_tokens,
        "description": fields.description,
        "fallbacks": fields.fallbacks,
        "routing": msgspec.to_builtins(fields.routing or RoutingFields()),
        "limits": msgspec.to_builtins(limits_of(fields.limits)),
        "total_limits": {name: most for name, most in _totals(fields.total_limits).items() if most},
        "media": msgspec.to_builtins(fields.media or MediaFields()),
    }


def sale_prices_of(fields: ModelFields) -> Prices | None:
    """None: it is not sold. Raises InvalidField."""
    if fields.free and fields.prices is not None:
        raise InvalidField("free", "can't be together with `prices`")
    if fields.free:
        return FREE
    return None if fields.prices is None else parse_prices(fields.prices, "prices")


def _totals(limits: TotalFields | VendorLimits | None) -> dict[str, int | None]:
    return {name: getattr(limits, name, None) for name in VendorLimits.__struct_fields__}


def show_model(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "context_length": model.context_length,
        "max_output_tokens": model.max_output_tokens,
        "description": model.description,
        "fallbacks": model.fallbacks,
        "routing": msgspec.structs.asdict(model.routing),
        "limits": show_limits(model.limits),
        "total_limits": {name: most or None for name, most in _totals(model.total_limits).items()},
        "media": {kind: msgspec.to_builtins(getattr(model.media, kind)) for kind in Media.__struct_fields__},
        "prices": None if model.prices is None else show_prices(model.prices),
        "price_version": model.price_version,
        "free": model.free,
        "created_at": iso(model.created_at_ms),
    }
