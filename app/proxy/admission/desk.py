"""Admission: the worst case is held, or the request is refused with the rule that refused it.

A wallet that can't pay for the worst case is looked at closely before it is refused: the prompt is counted rather than
bounded by its bytes, and an answer that the customer set no limit to gets the one that the wallet affords.
"""

from typing import Protocol

import msgspec

from app.base.errors import OutOfCredit, RateLimited, ServiceUnavailable, TollgateError
from app.base.receipt import Draft
from app.base.tokens import count_tokens
from app.catalog.pricing import Sale, worst_case_nano
from app.catalog.records import Model
from app.proxy.admission.estimate import affordable_output, output_bound, prompt_bound
from app.proxy.records import Caller, Hold, Order
from app.quota.gate import Admitted, Gate, Refused

__all__ = ["AdmissionDesk", "WarmWallet"]

_TRIES = 4
_BYTES_A_TOKEN_MOST = 16  # of anything that people write
_encode = msgspec.json.Encoder().encode


class WarmWallet(Protocol):
    """Rebuilds a wallet in Redis from the journal. Raises ServiceUnavailable."""

    async def __call__(self, account_id: str, /) -> None: ...


class AdmissionDesk:
    def __init__(self, gate: Gate, warm_wallet: WarmWallet) -> None:
        self._gate = gate
        self._warm_wallet = warm_wallet

    async def admit(self, caller: Caller, order: Order, model: Model, sale: Sale) -> tuple[Order, Hold]:
        """One round trip, but for a wallet near its floor. The order comes back with what the wallet imposed on it.

        Raises RateLimited, OutOfCredit, or ServiceUnavailable.
        """
        output = output_bound(order, model)
        is_counted, refused = False, ""
        for _ in range(_TRIES):
            amount = worst_case_nano(sale.prices, order.input_bound, output, sale.multiplier)
            answer = await self._ask(caller, order, sale, amount, output)
            if isinstance(answer, Admitted):
                return order, _hold(answer, amount, output)
            refused = answer.rule
            if refused == "cold":
                await self._warm_wallet(caller.account_id)
                continue
            if refused != "credit":
                raise _refusal(answer, caller)
            if not is_counted:
                if not _may_fit(order, sale, answer.available_nano):
                    raise OutOfCredit
                order = msgspec.structs.replace(order, input_bound=await _counted_bound(order))
                is_counted = True
            if worst_case_nano(sale.prices, order.input_bound, output, sale.multiplier) > answer.available_nano:
                limit = affordable_output(order, sale, output // order.answers, answer.available_nano)
                if order.output_limit is not None or limit < 1:
                    raise OutOfCredit
                order = msgspec.structs.replace(order, imposed_limit=limit)
                output = order.answers * limit
        # Others were quicker each time.
        raise OutOfCredit if refused == "credit" else ServiceUnavailable

    async def _ask(self, caller: Caller, order: Order, sale: Sale, amount_nano: int, output: int) -> Admitted | Refused:
        draft = Draft(
            created_at_ms=order.created_at_ms,
            dialect=order.dialect,
            model=order.model,
            stream=order.stream,
            price_version=sale.version,
            multiplier=sale.multiplier,
            input_bound=order.input_bound,
            output_bound=output,
            member_id=caller.member_id,
        )
        return await self._gate.admit(
            caller.slots, caller.limits, order.request_id, amount_nano, order.input_bound + output, _encode(draft)
        )


def _may_fit(order: Order, sale: Sale, available_nano: int) -> bool:
    """Whether counting could help at all: a long prompt takes long to count, and its sender may have nothing."""
    least = order.input_bound // _BYTES_A_TOKEN_MOST
    return worst_case_nano(sale.prices, least, order.answers, sale.multiplier) <= available_nano


async def _counted_bound(order: Order) -> int:
    """Near the floor: what a tokenizer finds, where that is less than the bytes."""
    return min(order.input_bound, prompt_bound(order, await count_tokens(order.prompt)))


def _hold(admitted: Admitted, amount_nano: int, output: int) -> Hold:
    return Hold(
        amount_nano=amount_nano,
        output_bound=output,
        generation=admitted.generation,
        requests_left=admitted.requests_left,
        requests_reset_ms=admitted.requests_reset_ms,
        tokens_left=admitted.tokens_left,
        tokens_reset_ms=admitted.tokens_reset_ms,
    )


def _refusal(refused: Refused, caller: Caller) -> TollgateError:
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
