"""What the model is told: of a request its receipt, as the proxy would write it, its settlement, and the plain entry;
of a credit what the journal answered."""

from typing import Any

import msgspec

from app.base.receipt import Attempt, Usage
from app.ledger.journal import Credit as RealCredit
from app.proxy.settlement.spool import Settlement
from tests.ledger.model import Credit, Entry, Lot, Request, price
from tests.ledger.office import Office

__all__ = ["KEY", "charge", "modelled"]

KEY = "key_1"
_encode = msgspec.json.Encoder().encode


def charge(office: Office, request: Request, target: int, kind: str, cost: int) -> Settlement:
    """Says once and for all what a request is charged: `target` nano or about that, by usage at the office's prices;
    and what each of its attempts costs."""
    usage, fields = _used(target, kind)
    fresh = usage.input_tokens - usage.cached_input_tokens
    multiplier = fields.get("multiplier", 1_000_000)
    is_free = kind in {"given", "failed"}
    amount = 0 if is_free else price(fresh, usage.cached_input_tokens, usage.output_tokens, multiplier)
    attempts = [Attempt(channel_id="chn_0", http_status=503, error="overloaded", duration_ms=5, cost_nano=cost)]
    if kind != "failed":
        attempts.append(Attempt(channel_id="chn_1", http_status=200, error=None, duration_ms=7, cost_nano=3 * cost))
    costs = tuple((attempt.channel_id, attempt.cost_nano) for attempt in attempts if cost)
    receipt = office.receipt(
        request.account.id,
        usage,
        request_id=request.id,
        amount_nano=amount,
        attempts=tuple(attempts),
        upstream_cost_nano=sum(nano for _, nano in costs),
        **fields,
    )
    request.charge = Entry(request.id, request.account, receipt.status, amount, costs=costs)
    request.settlement = Settlement(
        account_id=request.account.id,
        key_id=KEY,
        request_id=request.id,
        charge_nano=amount,
        tokens=usage.input_tokens + usage.output_tokens,
        receipt=_encode(receipt),
        generation=request.generation,
    )
    return request.settlement


def _used(target: int, kind: str) -> tuple[Usage, dict[str, Any]]:
    """2 nano a token, 3 a request; two cached tokens are the odd nano."""
    whole, odd = divmod(max(0, target - 3), 2)
    usage = Usage(input_tokens=whole + 2 * odd, cached_input_tokens=2 * odd)
    match kind:
        case "book":
            return Usage(input_tokens=whole // 3, output_tokens=target % 7), {"multiplier": 1_333_333}
        case "given":
            return usage, {"ending": "cut", "policy": "free", "status": "failed"}
        case "failed":
            return Usage(), {"channel_id": None, "ending": "failed", "status": "failed", "usage_source": "none"}
    return usage, {}


def modelled(made: RealCredit) -> Credit:
    lot = made.lot and Lot(made.lot.id, made.lot.remaining_nano, made.lot.expires_at_ms, made.lot.promotional)
    return Credit(made.entry_id, made.kind, made.amount_nano, lot, made.corrects)
