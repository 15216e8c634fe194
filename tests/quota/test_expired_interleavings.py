"""Old holds and newcomers in any order around the moments at which lots expire: who may spend what, to the nano."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.base.clock import now_ms
from app.base.wire import Wire
from app.quota.gate import Admitted, Refused
from tests.quota.till import Till

_FAR_MS = 4_000_000_000_000
_which = st.integers(0, 12)
_amounts = st.integers(0, 120)
_steps = st.one_of(
    st.tuples(st.just("admit"), _amounts),
    st.tuples(st.just("admit all"), st.just(0)),
    st.tuples(st.just("settle"), _which, st.integers(0, 250)),
    st.tuples(st.just("settle within"), _which, _amounts),
    st.tuples(st.just("extend"), _which, _amounts),
    st.tuples(st.just("expire"), st.integers(0, 3)),
    st.tuples(st.just("lapse"), st.integers(0, 3)),
    st.tuples(st.just("credit"), _amounts),
    st.tuples(st.just("debit"), st.integers(1, 120)),
    st.tuples(st.just("rebuild"), st.just(0)),
)


@dataclass
class Hold:
    """`open_lots` are those that had not expired when it was admitted."""

    nano: int
    open_lots: frozenset[str]


@dataclass
class Model:
    """`plain` is the money of no lot, `lots` what is left of each, `expired` those that have, in that order."""

    plain: int
    floor: int
    lots: dict[str, int]
    expired: list[str] = field(default_factory=list)
    holds: dict[str, Hold] = field(default_factory=dict)

    @property
    def balance(self) -> int:
        return self.plain + sum(self.lots.values())

    @property
    def held(self) -> int:
        return sum(hold.nano for hold in self.holds.values())

    @property
    def promised(self) -> int:
        """The most of the expired lots that holds may spend. Who may spend one may spend all that expired later, so
        this is the least cover (König) of the holds that came before one expiry and the lots that expired after it."""
        before = [sum(hold.nano for hold in self.holds.values() if lot in hold.open_lots) for lot in self.expired]
        after = [sum(self.lots[lot] for lot in self.expired[i:]) for i in range(len(self.expired) + 1)]
        return min([after[0], *(held + rest for held, rest in zip(before, after[1:], strict=True))])

    @property
    def available(self) -> int:
        lost = sum(self.lots[lot] for lot in self.expired) - self.promised
        return self.balance - self.held - self.floor - lost


class Street:
    """A till and its model, which have to agree after every step."""

    def __init__(self, till: Till, model: Model) -> None:
        self.till, self.model = till, model
        self.started: list[str] = []
        self.credits = 0

    async def admit(self, nano: int) -> None:
        request_id = f"req_{len(self.started)}"
        answer = await self.till.admit(request_id, nano=nano)
        if nano > self.model.available:
            assert answer == Refused("credit", available_nano=self.model.available)
            return
        assert isinstance(answer, Admitted)
        self.model.holds[request_id] = Hold(nano, frozenset(self.model.lots) - set(self.model.expired))
        self.started.append(request_id)

    async def settle(self, request_id: str, charge: int) -> None:
        """A charge within its hold is paid whole; no part of it comes from a lot that expired before the hold."""
        model = self.model
        hold = model.holds[request_id]
        affordable = model.available + hold.nano
        settled = await self.till.settle(request_id, nano=charge)
        assert settled is not None
        assert settled.unpaid_nano == max(0, charge - affordable)
        assert settled.unpaid_nano == 0 or charge > hold.nano
        parts = (await self.till.last_entry()).get(b"l", b"").decode().split()
        spent = {lot: int(nano) for lot, nano in (part.split(":") for part in parts)}
        assert spent.keys() <= hold.open_lots
        for lot, nano in spent.items():
            model.lots[lot] -= nano
            assert model.lots[lot] >= 0
        model.plain -= charge - settled.unpaid_nano - sum(spent.values())
        assert model.plain >= model.floor
        del model.holds[request_id]

    async def extend(self, request_id: str, more: int) -> None:
        is_held = more <= self.model.available
        assert await self.till.extend(request_id, more) == is_held
        self.model.holds[request_id].nano += more if is_held else 0

    async def expire(self, lot: str) -> None:
        """From this moment on."""
        if lot in self.model.expired:
            return
        text = await self.till.lots()
        at_ms = now_ms() + 1
        far = str(_FAR_MS + int(lot[-1]))
        await self.till.give_lots(text.replace(f":{far}:", f":{at_ms}:"))
        while now_ms() <= at_ms:
            await asyncio.sleep(0.001)
        self.model.expired.append(lot)

    async def lapse(self, lot: str) -> None:
        answer = await self.till.wallets.lapse(self.till.account_id, lot, b"{}")
        if lot not in self.model.expired:
            assert answer == (0, 0)
            return
        before = self.model.promised
        assert answer is not None and sum(answer) in (self.model.lots[lot], 0)
        self.model.lots[lot] -= answer[0]
        assert self.model.promised == before, "what is promised stays"

    async def credit(self, nano: int) -> None:
        self.credits += 1
        self.model.plain += nano
        assert await self.till.wallets.apply_credit(self.till.account_id, self.credits, nano) == "ok"

    async def debit(self, nano: int, movement: str) -> None:
        answer = await self.till.wallets.debit(self.till.account_id, movement, nano, b"{}")
        assert answer == ("ok" if nano <= self.model.available else "credit")
        if answer == "ok":
            live = [lot for lot in sorted(self.model.lots) if lot not in self.model.expired]
            for lot in live:
                part = min(self.model.lots[lot], nano)
                self.model.lots[lot] -= part
                nano -= part
            self.model.plain -= nano

    async def rebuild(self) -> None:
        seen, lots = await self.till.wallet(), await self.till.lots()
        await self.till.wire.call("DEL", self.till.slots.wallet)
        last = (await self.till.wallets.look(self.till.shard.number, [])).last_entry
        figures = (seen.balance_nano, seen.credit_number, seen.floor_nano, last, lots)
        assert await self.till.wallets.warm(self.till.account_id, *figures) == "ok"

    async def check(self) -> None:
        wallet = await self.till.wallet()
        assert (wallet.balance_nano, wallet.held_nano) == (self.model.balance, self.model.held)
        assert self.model.available >= 0


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    plain=st.integers(0, 200),
    line=st.integers(0, 100),
    lots=st.lists(st.tuples(st.integers(1, 200), st.booleans()), max_size=4),
    steps=st.lists(_steps, max_size=30),
)
async def test_expired_credit_pays_for_what_came_before_and_for_nothing_else(
    wire: Wire, plain: int, line: int, lots: list[tuple[int, bool]], steps: list[tuple[Any, ...]]
) -> None:
    """A charge within its hold is never unpaid; an expired lot pays for no hold that was given after it; and when all
    requests have ended, exactly what is left of the expired lots lapses, and no other money."""
    till = Till(wire)
    await wire.call("FLUSHALL", at=till.slots.wallet)
    names = [f"ent_{i}" for i in range(len(lots))]
    street = Street(till, Model(plain, -line, {f"ent_{i}": nano for i, (nano, _) in enumerate(lots)}))
    await till.warm(street.model.balance, floor_nano=-line)
    await till.give_lots(" ".join(f"ent_{i}:{nano}:{_FAR_MS + i}:{promo:d}" for i, (nano, promo) in enumerate(lots)))
    for number, step in enumerate(steps):
        running = list(street.model.holds)
        match step:
            case "admit", nano:
                await street.admit(nano)
            case "admit all", _:
                await street.admit(max(0, street.model.available))
            case "settle", which, charge if running:
                await street.settle(running[which % len(running)], charge)
            case "settle within", which, less if running:
                request_id = running[which % len(running)]
                await street.settle(request_id, max(0, street.model.holds[request_id].nano - less))
            case "extend", which, more if running:
                await street.extend(running[which % len(running)], more)
            case "expire", which if which < len(names):
                await street.expire(names[which])
            case "lapse", which if which < len(names):
                await street.lapse(names[which])
            case "credit", nano:
                await street.credit(nano)
            case "debit", nano:
                await street.debit(nano, f"ent_debit_{number}")
            case "rebuild", _:
                await street.rebuild()
        await street.check()
    await _end(street)


async def _end(street: Street) -> None:
    """All end at what was held for them, and what has expired lapses."""
    model = street.model
    for request_id in list(model.holds):
        await street.settle(request_id, model.holds[request_id].nano)
    due = model.balance - sum(model.lots[lot] for lot in model.expired)
    for lot in model.expired:
        await street.lapse(lot)
        assert model.lots[lot] == 0
    await street.check()
    assert model.balance == due
    await street.credit(100)
    for lot in model.expired:
        assert await street.till.wallets.lapse(street.till.account_id, lot, b"{}") == (0, 0)
