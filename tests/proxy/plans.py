"""Plans whose picks a test lists beforehand, and which keep account of what becomes of each."""

from collections import Counter

from app.base.crypto import Secret
from app.catalog.records import Channel, Credential, Timeouts
from app.proxy.records import Outcome, Pick
from tests.proxy.makers import make_channel
from tests.upstreams import Vendor

__all__ = ["ListedPlan", "channel_to"]

QUICK = Timeouts(connect_ms=1000, first_token_ms=5000, idle_ms=5000, total_ms=8_000)


def channel_to(vendor: Vendor, number: int, timeouts: Timeouts = QUICK) -> Channel:
    return make_channel(f"chn_{number}", base_url=vendor.base_url, timeouts=timeouts)


class ListedPlan:
    """The picks that it is given, in their order."""

    def __init__(self, *channels: Channel, hedge_s: float | None = None, deadline_at: float | None = None) -> None:
        self.hedge_s = hedge_s
        self.deadline_at = deadline_at
        self.retry_after_ms: int | None = None
        self.given: list[Pick] = []
        self.came_first: list[str] = []
        self.outcomes: dict[str, Outcome] = {}
        self._waiting = [
            Pick(channel, Credential(id=f"crd_{channel.id}", secret=Secret("sk-vendor"))) for channel in channels
        ]

    async def next(self) -> Pick | None:
        if not self._waiting:
            return None
        self.given.append(self._waiting.pop(0))
        return self.given[-1]

    def came(self, pick: Pick, ttft_ms: int) -> None:
        assert ttft_ms >= 0
        self.came_first.append(pick.channel.id)

    def ended(self, pick: Pick, outcome: Outcome) -> None:
        assert pick.channel.id not in self.outcomes, f"{pick.channel.id} ended twice"
        self.outcomes[pick.channel.id] = outcome

    @property
    def errors(self) -> dict[str, str | None]:
        """By channel: the error it was judged by, None where it was not, or `abandoned`."""
        return {name: "abandoned" if outcome.is_abandoned else outcome.error for name, outcome in self.outcomes.items()}

    def assert_settled(self) -> None:
        """Every pick was ended once, and none that was not given."""
        assert Counter(pick.channel.id for pick in self.given) == Counter(list(self.outcomes))
