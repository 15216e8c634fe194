"""Any order of admissions, settlements, expiries and credits leaves the wallet where plain arithmetic puts it."""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.base.wire import Wire
from app.quota.gate import Admitted, Refused, Settled
from tests.quota.till import Till

_amounts = st.integers(0, 2_000) | st.integers(0, 2**53 - 1)
_steps = st.one_of(
    st.tuples(st.just("admit"), _amounts),
    st.tuples(st.just("settle"), st.integers(0, 30), _amounts),
    st.tuples(st.just("expire"), st.integers(0, 30)),
    st.tuples(st.just("credit"), st.integers(0, 5_000)),
    st.tuples(st.just("credit again"), st.integers(0, 5_000)),
)


@dataclass
class Model:
    """A wallet in a few lines of Python, and the receipts that its stream must have."""

    balance: int
    floor: int
    credits: int = 0
    holds: dict[str, int] = field(default_factory=dict)
    receipts: list[bytes] = field(default_factory=list)

    @property
    def held(self) -> int:
        return sum(self.holds.values())

    def admit(self, request_id: str, nano: int) -> Refused | None:
        available = self.balance - self.held - self.floor
        if nano > available:
            return Refused("credit", available_nano=available)
        self.holds[request_id] = nano
        return None

    def settle(self, request_id: str, charge: int) -> Settled | None:
        if request_id not in self.holds:
            return None
        del self.holds[request_id]
        paid = min(charge, self.balance - self.held - self.floor)
        self.balance -= paid
        self.receipts.append(request_id.encode())
        return Settled(self.balance, charge - paid)

    def expire(self, request_id: str) -> bool:
        if self.holds.pop(request_id, None) is None:
            return False
        self.receipts.append(b"expired " + request_id.encode())
        return True


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(balance=st.integers(0, 10_000), line=st.integers(0, 3_000), steps=st.lists(_steps, max_size=40))
async def test_any_interleaving_is_exact(wire: Wire, balance: int, line: int, steps: list[tuple[Any, ...]]) -> None:
    """Every answer and every figure is the model's, to the nano; what is held is always there to be spent."""
    till = Till(wire)
    await wire.call("FLUSHALL", at=till.slots.wallet)
    model = Model(balance, -line)
    await till.warm(balance, floor_nano=-line)
    started: list[str] = []
    for step in steps:
        match step:
            case "admit", nano:
                request_id = f"req_{len(started)}"
                answer = await till.admit(request_id, nano=nano)
                refusal = model.admit(request_id, nano)
                assert answer == refusal if refusal else isinstance(answer, Admitted)
                if refusal is None:
                    started.append(request_id)
            case "settle", which, charge if which < len(started):
                assert await till.settle(started[which], nano=charge) == model.settle(started[which], charge)
            case "expire", which if which < len(started):
                assert await till.expire(started[which]) == model.expire(started[which])
            case "credit", nano:
                model.credits += 1
                model.balance += nano
                assert await till.wallets.apply_credit(till.account_id, model.credits, nano) == "ok"
            case "credit again", nano if model.credits:
                assert await till.wallets.apply_credit(till.account_id, model.credits, nano) == "done"
        wallet = await till.wallet()
        assert (wallet.balance_nano, wallet.held_nano, wallet.credit_number) == (
            model.balance,
            model.held,
            model.credits,
        )
        assert wallet.balance_nano - wallet.held_nano >= wallet.floor_nano
    assert await till.receipts() == model.receipts
    assert await wire.call("ZCARD", till.shard.leases) == len(model.holds)
