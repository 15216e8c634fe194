"""The books in plain Python: what wallets, streams and journal must say after any run of events. It knows nothing of
Redis, SQL or the code under test; figures are ints of nano-USD, and no answer is looked up: all are worked out.

A wallet is modelled twice, as the house keeps it twice: in the `journal`, and `live`, as Redis has it. The streams are
what is between them.
"""

import copy
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor

from app.base.clock import now_ms

__all__ = ["WALLET_MOST", "Account", "Books", "Credit", "Entry", "Live", "Lot", "Purse", "Request", "price"]

WALLET_MOST = 2**53 - 1


def price(fresh: int, cached: int, answer: int, multiplier: int) -> int:
    """2 nano a token of the prompt, 1/2 where it is cached, 10 a token of the answer, 3 a request; times millionths,
    rounded half up."""
    exact = (2 * fresh + Fraction(cached, 2) + 10 * answer + 3) * Fraction(multiplier, 1_000_000)
    return floor(exact + Fraction(1, 2))


@dataclass
class Lot:
    """Money that was given away, or that expires; `expires_ms` is None where it never does."""

    id: str
    left: int
    expires_ms: int | None
    promo: bool

    @property
    def place(self) -> tuple[bool, float, str]:
        """In the order of spending."""
        return (not self.promo, float("inf") if self.expires_ms is None else self.expires_ms, self.id)

    def is_over(self, at_ms: int) -> bool:
        return self.expires_ms is not None and self.expires_ms <= at_ms

    @property
    def text(self) -> str:
        return f"{self.id}:{self.left}:{self.expires_ms or 0}:{int(self.promo)}"


@dataclass
class Purse:
    """Money; its lots are a part of it."""

    balance: int = 0
    lots: list[Lot] = field(default_factory=list)

    def add(self, amount: int, lot: Lot | None) -> None:
        self.balance += amount
        if lot is not None:
            self.lots = sorted([*self.lots, copy.copy(lot)], key=lambda each: each.place)

    def split(self, amount: int, among: Iterable[str] | None = None) -> dict[str, int]:
        """How a charge is spent from lots, or from some of them: the rest of it is plain money."""
        parts = {}
        for lot in self.lots:
            part = min(lot.left, amount) if among is None or lot.id in among else 0
            if part:
                parts[lot.id] = part
                amount -= part
        return parts

    def split_at(self, amount: int, at_ms: int) -> dict[str, int]:
        """The same from lots that had not expired then: those that have since come first, in that order."""
        spent = {}
        for lot in self.expired(now_ms()):
            spent[lot.id] = 0 if lot.is_over(at_ms) else min(lot.left, amount)
            amount -= spent[lot.id]
        parts = {lot_id: nano for lot_id, nano in spent.items() if nano}
        return parts | self.split(amount, [lot.id for lot in self.lots if lot.id not in spent])

    def expired(self, at_ms: int) -> list[Lot]:
        """What expired first before the others."""
        over = [lot for lot in self.lots if lot.is_over(at_ms)]
        return sorted(over, key=lambda lot: lot.expires_ms or 0)

    def take(self, amount: int, parts: dict[str, int]) -> int:
        """How much of it was given away money."""
        self.balance -= amount
        promo = 0
        for lot in self.lots:
            part = parts.get(lot.id, 0)
            assert part <= lot.left, "the model spends what is not there"
            lot.left -= part
            promo += part if lot.promo else 0
        self.lots = [lot for lot in self.lots if lot.left]
        return promo


@dataclass
class Live(Purse):
    """A wallet as Redis has it: `number` is that of the last credit applied."""

    floor: int = 0
    number: int = 0


@dataclass
class Credit:
    """A numbered entry: money in, or a new credit line."""

    id: str
    kind: str
    amount: int
    lot: Lot | None = None
    corrects: str | None = None

    @property
    def terms(self) -> tuple[object, ...]:
        """What a key stands for."""
        return (self.kind, self.amount, self.corrects, self.lot and (self.lot.promo, self.lot.expires_ms))


@dataclass
class Account:
    id: str
    shard: int
    journal: Purse = field(default_factory=Purse)
    floor: int = 0
    credits: list[Credit] = field(default_factory=list)
    keys: dict[str, Credit] = field(default_factory=dict)
    debits: dict[str, tuple[str, int]] = field(default_factory=dict)  # by their key: entry, nano
    lost: list["Entry"] = field(default_factory=list)  # debits that Redis had taken and lost, unposted
    applied: int = 0  # number of the last credit that the journal knows to be in Redis
    live: Live | None = None
    held: int = 0
    # A line that was cut, or a charge while Redis had no wallet, may leave less than the floor.
    may_be_below: bool = False
    requests: list["Request"] = field(default_factory=list, repr=False, compare=False)

    @property
    def available(self) -> int:
        """What has expired pays for nobody who comes now, but for what was admitted before."""
        assert self.live is not None
        expired = sum(lot.left for lot in self.live.expired(now_ms()))
        return self.live.balance - self.held - self.live.floor - (expired - sum(self.kept().values()))

    def kept(self) -> dict[str, int]:
        """Of each expired lot what those hold that were admitted before: each on the first that it may spend."""
        assert self.live is not None
        kept: dict[str, int] = {}
        for lot in self.live.expired(now_ms()):
            assert lot.expires_ms is not None
            held = sum(each.hold or 0 for each in self.requests if each.since_ms < lot.expires_ms)
            kept[lot.id] = min(lot.left, max(0, held - sum(kept.values())))
        return kept


@dataclass
class Request:
    """`hold` is None where Redis has none, `losses` how often Redis had been emptied when it was admitted; `bound` are
    the tokens of its worst case. `charge` is what its settlement says, once there is one."""

    id: str
    account: Account
    generation: bytes
    losses: int
    bound: tuple[int, int]
    hold: int | None
    since_ms: int = field(default_factory=now_ms)
    overdue: int = 0
    charge: "Entry | None" = None
    settlement: object = None

    def __post_init__(self) -> None:
        self.account.requests.append(self)


@dataclass
class Entry:
    """A receipt or a movement on its way into the journal. `parts` are None where the ledger has to work out what came
    out of the lots that were `there`. The id of a lapse is Redis's to choose."""

    id: str | None
    account: Account
    kind: str
    amount: int
    unpaid: int = 0
    parts: dict[str, int] | None = field(default_factory=dict)
    there: frozenset[str] = frozenset()
    costs: tuple[tuple[str, int], ...] = ()
    given: tuple[tuple[str, int], ...] = ()  # what promotional lots paid of it, as they were spent; known when posted
    is_read: bool = False
    is_acknowledged: bool = False

    @property
    def taken(self) -> int:
        return self.amount - self.unpaid


class Books:
    """Every account, and what has become of every request."""

    def __init__(self, shards: int, expired_policy: str) -> None:
        self.expired_policy = expired_policy
        self.accounts: dict[str, Account] = {}
        self.requests: list[Request] = []
        self.losses = 0
        self.streams: list[list[Entry]] = [[] for _ in range(shards)]
        self.posted: dict[str, Entry] = {}
        self.totals: Counter[str] = Counter()

    # Money in

    def credit(self, account: Account, credit: Credit, key: str | None) -> None:
        account.credits.append(credit)
        account.journal.add(credit.amount, credit.lot)
        if key is not None:
            account.keys[key] = credit
        promo = credit.lot.left if credit.lot is not None and credit.lot.promo else 0
        source = {"credit": "promotions" if promo else "cash", "refund": "revenue", "adjustment": "adjustments"}
        self._move(account, credit.amount, promo, source[credit.kind])

    def credit_line(self, account: Account, floor: int, entry_id: str) -> None:
        account.may_be_below |= floor > account.floor
        account.floor = floor
        account.credits.append(Credit(entry_id, "credit_line", 0))

    def apply(self, account: Account, number: int) -> str:
        """One numbered entry to the wallet that Redis has: in order, once."""
        live = account.live
        if live is None:
            return "cold"
        if number <= live.number:
            return "done"
        if number > live.number + 1:
            return "gap"
        credit = account.credits[number - 1]
        live.add(credit.amount, credit.lot)
        live.number, live.floor = number, account.floor
        return "ok"

    def apply_all(self, account: Account) -> None:
        self.warm(account)
        assert account.live is not None
        for number in range(account.live.number + 1, len(account.credits) + 1):
            self.apply(account, number)
        account.applied = len(account.credits)

    def refundable(self, request: Request) -> int | None:
        """What of a request's charge was not given back; None where its receipt is not on the books."""
        receipt = self.posted.get(request.id)
        if receipt is None:
            return None
        account = request.account
        return receipt.taken - sum(
            each.amount for each in account.credits if each.kind == "refund" and each.corrects == request.id
        )

    def promotional_part(self, request: Request, amount: int) -> tuple[int, int | None]:
        """How much of a refund is promotional credit again, and when the first of the lots that it came from expires:
        money comes back in the reverse order of its spending, and what was given back before comes first."""
        receipt, account = self.posted[request.id], request.account
        left = self.refundable(request)
        assert left is not None
        plain = receipt.taken - sum(nano for _, nano in receipt.given)
        skip, promo, touched = receipt.taken - left, 0, []
        for lot_id, nano in [("", plain), *reversed(receipt.given)]:
            skipped = min(nano, skip)
            taken = min(nano - skipped, amount)
            skip, amount = skip - skipped, amount - taken
            if taken and lot_id:
                promo += taken
                touched.append(lot_id)
        lots = [credit.lot for credit in account.credits if credit.lot is not None and credit.id in touched]
        return promo, min((lot.expires_ms for lot in lots if lot.expires_ms is not None), default=None)

    # Requests

    def admit(self, account: Account, hold: int) -> bool:
        if hold > account.available or account.available < 0:
            return False
        account.held += hold
        return True

    def extend(self, request: Request, more: int) -> bool:
        """A hold that is gone needs no more."""
        if request.hold is None:
            return True
        if more > request.account.available:
            return False
        request.hold += more
        request.account.held += more
        return True

    def settle(self, request: Request, charge: Entry) -> tuple[int, int] | None:
        """A request's one receipt: its own hold and what nobody holds can be spent. (balance, unpaid), or None where it
        has its receipt, and nothing happens."""
        if self.has_receipt(request):
            return None
        account, live = request.account, request.account.live
        entry = copy.copy(charge)
        if live is None:
            if entry.amount:
                entry.parts = None
                entry.there = frozenset(lot.id for lot in account.journal.lots)
                account.may_be_below = True
            balance = 0
        else:
            affordable = max(0, account.available + (request.hold or 0))
            entry.unpaid = max(0, entry.amount - affordable)
            entry.parts = live.split_at(entry.taken, now_ms() if request.hold is None else request.since_ms)
            live.take(entry.taken, entry.parts)
            balance = live.balance
        account.held -= request.hold or 0
        request.hold = None
        self.streams[account.shard].append(entry)
        return balance, entry.unpaid

    def has_receipt(self, request: Request) -> bool:
        stream = self.streams[request.account.shard]
        return request.id in self.posted or any(entry.id == request.id for entry in stream)

    def sweep(self) -> int:
        """Holds whose lease has run out end with a receipt that says so."""
        overdue = [each for each in self.requests if each.hold is not None and each.overdue]
        for request in sorted(overdue, key=lambda each: (each.account.shard, each.overdue)):
            amount = price(request.bound[0], 0, request.bound[1], 1_000_000) if self.expired_policy == "full" else 0
            self.settle(request, Entry(request.id, request.account, "expired", amount))
        return len(overdue)

    # Money out

    def debit(self, account: Account, entry_id: str, amount: int) -> None:
        live = account.live
        assert live is not None
        self._debit(account, entry_id, amount, live.split_at(amount, now_ms()))

    def _debit(self, account: Account, entry_id: str, amount: int, parts: dict[str, int]) -> None:
        assert account.live is not None
        account.live.take(amount, parts)
        self.streams[account.shard].append(Entry(entry_id, account, "adjustment", amount, parts=parts))

    def pass_time(self, ms: int) -> None:
        """As if all had happened earlier. A lot that has expired stays where it is until it is taken."""
        for account in self.accounts.values():
            purses = [account.journal, *([account.live] if account.live else [])]
            known = [lot for purse in purses for lot in purse.lots]
            for lot in [*known, *(credit.lot for credit in account.credits if credit.lot)]:
                if lot.expires_ms is not None:
                    lot.expires_ms -= ms
        for request in self.requests:
            request.since_ms -= ms

    def lapse(self, now_ms: int) -> int:
        """Takes what is left of expired lots, but for what is held."""
        expired = [
            (lot.expires_ms, lot.id, account)
            for account in self.accounts.values()
            for lot in account.journal.lots
            if lot.expires_ms is not None and lot.expires_ms <= now_ms
        ]
        return sum(self._lapse(account, lot_id) for _, lot_id, account in sorted(expired, key=lambda each: each[:2]))

    def _lapse(self, account: Account, lot_id: str) -> bool:
        self.warm(account)
        live = account.live
        assert live is not None
        kept = account.kept()
        taken = sum(lot.left - kept[lot.id] for lot in live.expired(now_ms()) if lot.id == lot_id)
        if taken:
            live.take(taken, {lot_id: taken})
            self.streams[account.shard].append(Entry(None, account, "lapse", taken, parts={lot_id: taken}))
        return taken > 0

    # The bookkeeper, and what goes wrong

    def post(self, entries: Iterable[Entry]) -> int:
        """Into the journal, each once; how many were new."""
        count = 0
        for entry in entries:
            assert entry.id is not None
            if entry.id in self.posted:
                continue
            count += 1
            self.posted[entry.id] = entry
            account = entry.account
            parts = self._parts(account.journal, entry)
            is_promo = {lot.id for lot in account.journal.lots if lot.promo}
            entry.given = tuple((lot_id, nano) for lot_id, nano in parts.items() if lot_id in is_promo)
            promo = account.journal.take(entry.taken, parts)
            target = {"lapse": "promotions" if promo else "revenue", "adjustment": "adjustments"}
            self._move(account, -entry.taken, -promo, target.get(entry.kind, "revenue"))
            for channel, cost in entry.costs:
                self.totals[f"cost:{channel}"] -= cost
                self.totals[f"payable:{channel}"] += cost
        return count

    def unposted(self, shard: int) -> list[Entry]:
        return [entry for entry in self.streams[shard] if entry.id is None or entry.id not in self.posted]

    def warm(self, account: Account) -> None:
        """A wallet that Redis lacks is its journal, less what the stream has and the journal has not."""
        if account.live is not None:
            return
        live = Live(account.journal.balance, copy.deepcopy(account.journal.lots), account.floor, len(account.credits))
        for entry in self.unposted(account.shard):
            if entry.account is account:
                live.take(entry.taken, self._parts(live, entry))
        lost, account.lost = account.lost, []
        account.live = live
        for debit in lost:
            if debit.id not in self.posted:
                assert debit.id is not None
                self._debit(account, debit.id, debit.amount, live.split(debit.amount))

    def lose_redis(self) -> None:
        """Wallets, holds, and what was not posted yet; but debits, which the database has too, are taken again."""
        self.losses += 1
        for account in self.accounts.values():
            account.live, account.held = None, 0
        for request in self.requests:
            request.hold = None
        for shard, stream in enumerate(self.streams):
            for entry in self.unposted(shard):
                if entry.kind == "adjustment":
                    entry.account.lost.append(entry)
            stream.clear()

    def _parts(self, purse: Purse, entry: Entry) -> dict[str, int]:
        return purse.split(entry.taken, entry.there) if entry.parts is None else entry.parts

    def _move(self, account: Account, amount: int, promo: int, other: str) -> None:
        self.totals[f"promo:{account.id}"] += promo
        self.totals[f"wallet:{account.id}"] += amount - promo
        self.totals[other] -= amount
