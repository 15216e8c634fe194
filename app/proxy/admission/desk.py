"""Admission: the worst case is held, or the request is refused with the rule that refused it.

A wallet or a budget that can't pay for the worst case is looked at closely before the request is refused: the prompt is
counted rather than bounded by its bytes, where every vendor that may be asked counts it so too; and an answer that the
customer set no limit to gets the one that fits.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from app.base.errors import OutOfCredit, ServiceUnavailable, TollgateError
from app.base.tokens import count_tokens
from app.catalog.pricing import Sale, worst_case_nano
from app.catalog.records import Channel
from app.proxy.admission.estimate import (
    Room,
    affordable_output,
    bounded,
    counted_bound,
    held_output,
    output_bound,
)
from app.proxy.admission.refusals import counter_of, limit_reached, over_budget
from app.proxy.admission.rulebook import Rulebook
from app.proxy.drafts import write_draft
from app.proxy.records import BudgetMark, Caller, Hold, MarkBudget, Offer, Order
from app.quota.gate import Admitted, Gate, Refused
from app.quota.rules import Rules

__all__ = ["AdmissionDesk", "BringCounters", "WarmWallet"]

_TRIES = 8
_BYTES_A_TOKEN_MOST = 16  # of anything that people write


class WarmWallet(Protocol):
    """Rebuilds a wallet in Redis from the journal. Raises ServiceUnavailable."""

    async def __call__(self, account_id: str, /) -> None: ...


class BringCounters(Protocol):
    """Brings what was used in the windows of these rules from the books to Redis. Raises ServiceUnavailable."""

    async def __call__(self, account_id: str, rules: Rules, /) -> None: ...


class AdmissionDesk:
    """`counts_like_ours` says whether the vendors behind all of these channels count the tokens of this public model
    with our tokenizer."""

    def __init__(
        self,
        gate: Gate,
        warm_wallet: WarmWallet,
        bring_counters: BringCounters,
        mark_budget: MarkBudget,
        counts_like_ours: Callable[[Sequence[Channel], str], bool],
    ) -> None:
        self._gate = gate
        self._warm_wallet = warm_wallet
        self._bring_counters = bring_counters
        self._mark_budget = mark_budget
        self._counts_like_ours = counts_like_ours
        self._rulebook = Rulebook()

    async def admit(self, caller: Caller, order: Order, offer: Offer) -> tuple[Order, Hold]:
        """One round trip, but near the end of a wallet or a budget. The order is bounded for the model on offer, and
        comes back with what the end of a wallet imposed on it.

        Raises RateLimited, OutOfCredit, or ServiceUnavailable.
        """
        model, sale = offer.model, offer.sale
        output = output_bound(order, model)
        is_counted = False
        late: TollgateError = ServiceUnavailable()
        for _ in range(_TRIES):
            rules = self._rulebook.rules(caller, model)
            amount = worst_case_nano(sale.prices, order.input_bound, output, sale.multiplier, extras=order.held_extras)
            answer = await self._ask(caller, rules, order, sale, amount, output)
            if isinstance(answer, Admitted):
                return order, _hold(answer, rules, amount, output)
            if answer.rule == "cold":
                await self._warm_wallet(caller.account_id)
                continue
            if answer.rule == "unknown":
                await self._bring_counters(caller.account_id, rules)
                continue
            room = _room(answer, rules)
            if room is None:
                raise limit_reached(answer, rules, caller)
            if not is_counted and self._counts_like_ours(offer.channels, offer.model.name):
                least = msgspec.structs.replace(order, input_bound=order.input_bound // _BYTES_A_TOKEN_MOST)
                if not room.fits(least, sale, order.answers):
                    # Counting would not help: a long prompt takes long to count, and its sender may have nothing.
                    raise self._too_dear(answer, rules, caller)
                counted = counted_bound(order, await count_tokens(order.prompt))
                order = bounded(msgspec.structs.replace(order, counted_tokens=counted), offer, is_counted=True)
            is_counted = True
            if not room.fits(order, sale, output):
                limit = affordable_output(order, sale, output // order.answers, room)
                if order.output_limit is not None or limit < 1:
                    raise self._too_dear(answer, rules, caller)
                order = msgspec.structs.replace(order, imposed_limit=limit)
                output = order.answers * limit
            late = over_budget(answer, rules, caller) if answer.is_budget else OutOfCredit()
        raise late  # others were quicker each time

    async def _ask(
        self, caller: Caller, rules: Rules, order: Order, sale: Sale, amount_nano: int, output: int
    ) -> Admitted | Refused:
        return await self._gate.admit(
            caller.slots,
            rules,
            order.request_id,
            amount_nano,
            order.input_bound + held_output(order, output),
            write_draft(caller, order, sale, output),
        )

    def _too_dear(self, refused: Refused, rules: Rules, caller: Caller) -> OutOfCredit:
        """The error, and a word to whoever watches budgets."""
        if not refused.is_budget:
            return OutOfCredit()
        counter = counter_of(refused, rules)
        subject = rules.subjects[refused.subject]
        mark = BudgetMark(subject, counter.name, refused.used, counter.amount, refused.start_ms, refused=True)
        self._mark_budget(caller, mark)
        return over_budget(refused, rules, caller)


def _room(refused: Refused, rules: Rules) -> Room | None:
    """What there is for a smaller request; None where a limit refused, which looks at no size."""
    if refused.rule == "credit":
        return Room(nano=refused.available_nano)
    if not refused.is_budget:
        return None
    match counter_of(refused, rules).unit:
        case "usd":
            return Room(nano=refused.left)
        case "tokens":
            return Room(tokens=refused.left)
        case "requests":
            return Room(tokens=0)


def _hold(admitted: Admitted, rules: Rules, amount_nano: int, output: int) -> Hold:
    return Hold(
        amount_nano=amount_nano,
        output_bound=output,
        generation=admitted.generation,
        rules=rules,
        requests=admitted.requests,
        tokens=admitted.tokens,
    )
