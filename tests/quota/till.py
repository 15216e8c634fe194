"""One customer at the till: a key, its wallet in a real Redis, and short names for what every test does with them."""

import msgspec

from app.base.clock import now_ms
from app.base.ids import new_id
from app.base.limits import Limits
from app.base.wire import Wire
from app.quota.gate import Admitted, Gate, Refused, Settled
from app.quota.rules import NO_RULES, Rules, Subject, compile_rules
from app.quota.slots import use_keys
from app.quota.use import Seed, UseCounters
from app.quota.wallets import Wallet, Wallets

__all__ = ["LEASE_MS", "SHARDS", "Till"]

LEASE_MS = 60_000
SHARDS = 4
DRAFT = b'{"dialect": "openai_chat", "note": "with spaces in it"}'


class Till:
    """Every till is another account, so that tests need no Redis of their own."""

    def __init__(self, wire: Wire, account_id: str | None = None, key_id: str = "key_1") -> None:
        self.wire = wire
        self.gate = Gate(wire, LEASE_MS)
        self.wallets = Wallets(wire, SHARDS)
        self.account_id = account_id or new_id("acc")
        self.slots = self.wallets.slots(self.account_id, f"{key_id}:{self.account_id}")
        self.shard = self.slots.shard
        self.generations: dict[str, bytes] = {}
        self.rules: dict[str, Rules] = {}
        self.use, self.live = use_keys(self.shard.number, f"{self.slots.key_id}=")

    async def warm(self, balance_nano: int, floor_nano: int = 0, credit_number: int = 0) -> str:
        look = await self.wallets.look(self.shard.number, [])
        last = look.entries[-1].id if look.entries else b""
        return await self.wallets.warm(self.account_id, balance_nano, credit_number, floor_nano, last)

    async def admit(
        self, request_id: str, nano: int = 0, tokens: int = 0, rpm: int = 0, tpm: int = 0, concurrency: int = 0
    ) -> Admitted | Refused:
        """Under limits of its key."""
        limits = Limits(rpm=rpm, tpm=tpm, concurrency=concurrency)
        return await self.admit_under(request_id, [Subject("key", self.slots.key_id, limits)], nano, tokens)

    async def admit_under(
        self, request_id: str, subjects: list[Subject], nano: int = 0, tokens: int = 0, at_ms: int | None = None
    ) -> Admitted | Refused:
        """Under any rules, whose windows are those of `at_ms` (now). Counters that Redis lacks begin at nothing."""
        rules = compile_rules(subjects, at_ms or now_ms())
        answer = await self.gate.admit(self.slots, rules, request_id, nano, tokens, DRAFT)
        if answer == Refused("unknown"):
            await self.seed(rules)
            answer = await self.gate.admit(self.slots, rules, request_id, nano, tokens, DRAFT)
        if isinstance(answer, Admitted):
            self.generations[request_id] = answer.generation
            self.rules[request_id] = rules
        return answer

    async def seed(self, rules: Rules, used: int = 0) -> None:
        """Every counter of the rules, in the window of now."""
        last = await UseCounters(self.wire).last_entry(self.shard.number)
        seeds = [
            Seed(subject.name, tuple((each.name, each.starts[1] if each.starts[1:] else 0, used) for each in counters))
            for subject, counters in zip(rules.subjects, rules.counters, strict=True)
        ]
        assert await UseCounters(self.wire).seed(self.shard.number, last, seeds)

    async def settle(self, request_id: str, nano: int = 0, tokens: int = 0) -> Settled | None:
        """With a receipt that is the request's id."""
        return await self._settle(request_id, nano, tokens)

    async def settle_again(self, request_id: str, nano: int = 0) -> Settled | None:
        """As the spool does. Raises LostHold."""
        return await self._settle(request_id, nano, 0, is_repeat=True)

    async def _settle(self, request_id: str, nano: int, tokens: int, *, is_repeat: bool = False) -> Settled | None:
        generation = self.generations[request_id]
        receipt = request_id.encode()
        trace = self.rules.get(request_id, NO_RULES).trace
        settled = await self.gate.settle(
            self.slots, request_id, nano, tokens, receipt, generation, trace, is_repeat=is_repeat
        )
        return settled and msgspec.structs.replace(settled, entry=b"")  # whose id depends on the clock

    async def extend(self, request_id: str, nano: int) -> bool:
        trace = self.rules.get(request_id, NO_RULES).trace
        return await self.gate.extend(self.slots, request_id, nano, trace)

    async def give_lots(self, text: str) -> None:
        """Says which of the wallet's money is promotional or expires."""
        await self.wire.call("HSET", self.slots.wallet, "l", text)

    async def lots(self) -> str:
        return (await self.wire.call("HGET", self.slots.wallet, "l") or b"").decode()

    async def last_entry(self) -> dict[bytes, bytes]:
        look = await self.wallets.look(self.shard.number, [])
        return dict(look.entries[-1].fields)

    async def expire(self, request_id: str) -> bool:
        receipt = b"expired " + request_id.encode()
        trace = self.rules.get(request_id, NO_RULES).trace
        return await self.wallets.expire(request_id, self.account_id, trace, receipt)

    async def wallet(self) -> Wallet:
        wallet = await self.wallets.read(self.account_id)
        assert wallet is not None
        return wallet

    async def receipts(self) -> list[bytes]:
        """What the stream of the shard has, oldest first."""
        look = await self.wallets.look(self.shard.number, [])
        return [entry.fields[b"r"] for entry in look.entries]

    async def run_out(self, request_id: str) -> None:
        """As if the lease of a request had ended long ago, without waiting for it."""
        for leases in (self.shard.leases, self.live):
            await self.wire.call("ZADD", leases, "XX", 1, request_id)

    async def rewind(self, ms: int) -> None:
        """As if what the key, and whoever is bound with it, has used had been written, and what runs had been
        admitted, `ms` earlier."""
        subjects = {subject.name for rules in self.rules.values() for subject in rules.subjects}
        for name in subjects | {self.slots.key_id}:
            use = f"{{s{self.shard.number}}}:use:{name}"
            at = await self.wire.call("HGET", use, "at")
            if at is not None:
                await self.wire.call("HSET", use, "at", int(at) - ms * 1000)
        for request_id in self.generations:
            hold = await self.wire.call("HGET", self.shard.holds, request_id)
            if hold is not None:
                nano, tokens, since, rest = hold.split(b" ", 3)
                earlier = b"%d" % (int(since) - ms * 1000)
                await self.wire.call("HSET", self.shard.holds, request_id, b" ".join((nano, tokens, earlier, rest)))
