"""Admission: the worst case is held, or the request is refused with the rule that refused it."""

from typing import Protocol

import msgspec

from app.base.errors import OutOfCredit, RateLimited, ServiceUnavailable, TollgateError
from app.base.receipt import Draft
from app.catalog.pricing import worst_case_nano
from app.catalog.records import Model
from app.proxy.admission.estimate import output_bound
from app.proxy.records import Caller, Hold, Order
from app.quota.gate import Admitted, Gate, Refused

__all__ = ["AdmissionDesk", "WarmWallet"]

_WARM_TRIES = 3
_encoder = msgspec.json.Encoder()


class WarmWallet(Protocol):
    """Rebuilds a wallet in Redis from the journal. Raises ServiceUnavailable."""

    async def __call__(self, account_id: str, /) -> None: ...


class AdmissionDesk:
    def __init__(self, gate: Gate, warm_wallet: WarmWallet) -> None:
        self._gate = gate
        self._warm_wallet = warm_wallet

    async def admit(self, caller: Caller, order: Order, model: Model) -> Hold:
        """One round trip. Raises RateLimited, OutOfCredit, or ServiceUnavailable."""
        assert model.prices is not None and model.price_version is not None
        output = output_bound(order, model)
        amount = worst_case_nano(model.prices, order.input_bound, output)
        draft = _encoder.encode(
            Draft(
                created_at_ms=order.created_at_ms,
                dialect=order.dialect,
                model=order.model,
                stream=order.stream,
                price_version=model.price_version,
            )
        )
        for _ in range(_WARM_TRIES):
            answer = await self._gate.admit(
                caller.slots, caller.limits, order.request_id, amount, order.input_bound + output, draft
            )
            if isinstance(answer, Admitted):
                return Hold(
                    amount_nano=amount,
                    generation=answer.generation,
                    requests_left=answer.requests_left,
                    requests_reset_ms=answer.requests_reset_ms,
                    tokens_left=answer.tokens_left,
                    tokens_reset_ms=answer.tokens_reset_ms,
                )
            if answer.rule != "cold":
                raise _refusal(answer, caller)
            await self._warm_wallet(caller.account_id)
        raise ServiceUnavailable


def _refusal(refused: Refused, caller: Caller) -> TollgateError:
    if refused.rule == "credit":
        return OutOfCredit()
    limits = caller.limits
    rule = {
        "requests": f"{limits.rpm} requests a minute",
        "tokens": f"{limits.tpm} tokens a minute",
        "concurrency": f"{limits.concurrency} requests at the same time",
    }[refused.rule]
    error = RateLimited(
        f"This key's limit of {rule} is reached. Try again in {refused.retry_after_ms / 1000:.3f} s.",
        refused.retry_after_ms,
    )
    if refused.rule != "concurrency":
        name = refused.rule.encode()
        error.headers += (
            (b"x-ratelimit-limit-" + name, b"%d" % (limits.rpm if refused.rule == "requests" else limits.tpm)),
            (b"x-ratelimit-remaining-" + name, b"%d" % refused.left),
            (b"x-ratelimit-reset-" + name, b"%dms" % refused.reset_ms),
        )
    return error
