"""What a customer is told who is refused: whose rule it was, what it allows, and when it lets the next one in. Pure."""

from app.base.errors import OutOfCredit, RateLimited
from app.base.money import format_usd
from app.proxy.admission.headers import allowance_headers, duration
from app.proxy.records import Caller
from app.quota.gate import Allowance, Refused
from app.quota.rules import Counter, Rules, Subject

__all__ = ["counter_of", "limit_reached", "over_budget"]

_LIMITS = {
    "rpm": "requests a minute",
    "tpm": "tokens a minute",
    "rpd": "requests a day",
    "tpd": "tokens a day",
    "concurrency": "requests at the same time",
}
# The official clients don't wait longer before they try again, and would do so in vain.
_CLIENTS_WAIT_MS = 60_000
_WINDOWS = {"lifetime": "in all", "hour": "an hour", "day": "a day", "week": "a week", "month": "a month"}


def limit_reached(refused: Refused, rules: Rules, caller: Caller) -> RateLimited:
    subject = rules.subjects[refused.subject]
    amount = getattr(subject.limits, refused.rule)
    about = f" for `{subject.model}`" if subject.model else ""
    error = RateLimited(
        f"{_whose(subject, caller)} limit of {amount} {_LIMITS[refused.rule]}{about} is reached. "
        f"Try again in {duration(refused.retry_after_ms)}.",
        refused.retry_after_ms,
    )
    if refused.retry_after_ms > _CLIENTS_WAIT_MS:
        error.headers += ((b"x-should-retry", b"false"),)
    if refused.rule != "concurrency":
        left = Allowance(amount, refused.left, refused.reset_ms)
        error.headers += tuple(allowance_headers("requests" if refused.rule.startswith("r") else "tokens", left))
    return error


def over_budget(refused: Refused, rules: Rules, caller: Caller) -> OutOfCredit:
    counter = counter_of(refused, rules)
    budget = f"{_whose(rules.subjects[refused.subject], caller)} budget of {_amount(counter, counter.amount)}"
    frees = "It does not renew." if refused.retry_after_ms < 0 else f"It renews in {duration(refused.retry_after_ms)}."
    return OutOfCredit(
        f"{budget} {_WINDOWS[counter.window]} does not cover this request at its worst case: "
        f"{_amount(counter, max(0, refused.left))} left. {frees}"
    )


def counter_of(refused: Refused, rules: Rules) -> Counter:
    """The budget that refused."""
    return next(each for each in rules.counters[refused.subject] if each.name == refused.rule)


def _amount(counter: Counter, amount: int) -> str:
    if counter.unit == "usd":
        return f"{format_usd(amount)} USD"
    return f"{amount} {counter.unit}"


def _whose(subject: Subject, caller: Caller) -> str:
    if subject.kind == "key":
        return "This key's"
    is_own = not caller.chain or subject.id == caller.chain[0].id
    return "Your account's" if is_own else "The parent account's"
