"""Which rules bound a request: its key's, those of the accounts from the key's own to the one that pays, and those of
each account's use of the model. Compiled once for a key and a model, and again when a window has turned."""

from collections.abc import Iterator

from app.base.clock import now_ms
from app.base.limits import NO_LIMITS
from app.catalog.records import Model
from app.proxy.records import Caller
from app.quota.rules import Rules, Subject, compile_rules

__all__ = ["Rulebook", "key_subject", "subjects_of"]

_KEPT_MOST = 20_000


class Rulebook:
    def __init__(self) -> None:
        self._known: dict[tuple[str, str], tuple[Caller, Model, Rules]] = {}

    def rules(self, caller: Caller, model: Model) -> Rules:
        """A caller or a model that was read anew may have others."""
        at = (caller.key_id, model.name)
        known = self._known.get(at)
        if known is not None and known[0] is caller and known[1] is model:
            rules = known[2]
            if rules.until_ms is None or now_ms() < rules.until_ms:
                return rules
        rules = compile_rules(subjects_of(caller, model), now_ms())
        if len(self._known) >= _KEPT_MOST:
            self._known.clear()
        self._known[at] = (caller, model, rules)
        return rules


def key_subject(caller: Caller) -> Subject:
    zone = caller.chain[0].time_zone if caller.chain else "UTC"
    return Subject("key", caller.key_id, caller.limits, caller.budgets, zone)


def subjects_of(caller: Caller, model: Model) -> Iterator[Subject]:
    """Those without a rule too. A model's own limits are of the paying account's use of it, unless that has its own."""
    yield key_subject(caller)
    for account in caller.chain:
        yield Subject("account", account.id, account.limits, account.budgets, account.time_zone)
        limits = account.model_limits.get(model.name)
        if limits is None:
            limits = model.limits if account is caller.chain[-1] else NO_LIMITS
        yield Subject("model", account.id, limits, (), account.time_zone, model.name)
