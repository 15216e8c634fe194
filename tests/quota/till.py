"""One customer at the till: a key, its wallet in a real Redis, and short names for what every test does with them."""

from app.base.ids import new_id
from app.base.limits import Limits
from app.base.wire import Wire
from app.quota.gate import Admitted, Gate, Refused, Settled
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

    async def warm(self, balance_nano: int, floor_nano: int = 0, credit_number: int = 0) -> str:
        look = await self.wallets.look(self.shard.number, [])
        last = look.entries[-1].id if look.entries else b""
        return await self.wallets.warm(self.account_id, balance_nano, credit_number, floor_nano, last)

    async def admit(
        self, request_id: str, nano: int = 0, tokens: int = 0, rpm: int = 0, tpm: int = 0, concurrency: int = 0
    ) -> Admitted | Refused:
        limits = Limits(rpm=rpm, tpm=tpm, concurrency=concurrency)
        answer = await self.gate.admit(self.slots, limits, request_id, nano, tokens, DRAFT)
        if isinstance(answer, Admitted):
            self.generations[request_id] = answer.generation
        return answer

    async def settle(self, request_id: str, nano: int = 0, tokens: int = 0) -> Settled | None:
        """With a receipt that is the request's id."""
        return await self._settle(request_id, nano, tokens)

    async def settle_again(self, request_id: str, nano: int = 0) -> Settled | None:
        """As the spool does. Raises LostHold."""
        return await self._settle(request_id, nano, 0, is_repeat=True)

    async def _settle(self, request_id: str, nano: int, tokens: int, *, is_repeat: bool = False) -> Settled | None:
        generation = self.generations[request_id]
        receipt = request_id.encode()
        return await self.gate.settle(self.slots, request_id, nano, tokens, receipt, generation, is_repeat=is_repeat)

    async def extend(self, request_id: str, nano: int) -> bool:
        return await self.gate.extend(self.slots, request_id, nano)

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
        return await self.wallets.expire(request_id, self.account_id, self.slots.key_id, receipt)

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
        for leases in (self.shard.leases, self.slots.live):
            await self.wire.call("ZADD", leases, "XX", 1, request_id)

    async def rewind(self, ms: int) -> None:
        """As if the key's limits had been written, and what runs had been admitted, `ms` earlier."""
        at = int(await self.wire.call("HGET", self.slots.rate, "at"))
        await self.wire.call("HSET", self.slots.rate, "at", at - ms * 1000)
        for request_id in self.generations:
            hold = await self.wire.call("HGET", self.shard.holds, request_id)
            if hold is not None:
                nano, tokens, tpm, since, rest = hold.split(b" ", 4)
                earlier = b"%d" % (int(since) - ms * 1000)
                await self.wire.call(
                    "HSET", self.shard.holds, request_id, b" ".join((nano, tokens, tpm, earlier, rest))
                )
