"""What an outcome says about the way that had it. Pure."""

from typing import Literal

from app.proxy.records import Outcome

__all__ = ["Finding", "is_brief", "judge", "reason_of"]

Finding = Literal["served", "refused", "unfit", "failed", "limited", "denied", "nothing"]

_DENIALS = frozenset({401, 402, 403})
_REFUSALS = frozenset({400, 404, 413, 422})
_BRIEF = frozenset({408, 409, 425, 429})
_BRIEF_FAULTS = frozenset({"connect", "connect_timeout", "network"})


def judge(outcome: Outcome) -> Finding:
    """`refused`: the vendor found fault with the request, and is well. `unfit`: it found fault with the channel, in
    words that the request may have put into its mouth: the operator is told, and nothing else is learnt. `limited`:
    429. `denied`: the credential is not good, or not paid for. `nothing`: it was abandoned before anybody knew."""
    status = outcome.http_status
    if outcome.is_unfit:
        return "unfit"
    if status in _DENIALS:
        return "denied"
    if status == 429:
        return "limited"
    if status in _REFUSALS:
        return "refused"
    if outcome.is_abandoned:
        return "nothing"
    return "served" if outcome.error is None else "failed"


def is_brief(outcome: Outcome) -> bool:
    """The same request may well succeed at the same vendor a moment later."""
    status = outcome.http_status
    if status is None:
        return outcome.error in _BRIEF_FAULTS
    return status in _BRIEF or status >= 500


def reason_of(outcome: Outcome) -> str:
    """In words for the operator, without anything that the vendor said."""
    if outcome.is_unfit:
        return f"HTTP {outcome.http_status}: {outcome.error}"
    if outcome.http_status not in (None, 200, 201):
        return f"HTTP {outcome.http_status}"
    return outcome.error or "no error"
