"""What each ending costs the customer, as the deployment decides. Pure."""

import msgspec

from app.base.receipt import Ending, Policy, Status

__all__ = ["Policies", "status_of"]


class Policies(msgspec.Struct, frozen=True, kw_only=True):
    """`full`: what the vendor charges, by its usage, else by a count of all that it sent. `delivered`: the prompt, and
    a count of what reached the customer. `free`: nothing.

    An answer that is complete is charged in full, one that failed before its first content is free; `no_usage` is for
    answers that are complete but whose vendor sent no usage.
    """

    cut: Policy = "delivered"
    client_gone: Policy = "full"
    interrupted: Policy = "delivered"
    out_of_credit: Policy = "delivered"
    no_usage: Policy = "full"

    def of(self, ending: Ending, *, has_usage: bool) -> Policy:
        match ending:
            case "finished":
                return "full" if has_usage else self.no_usage
            case "cut":
                return self.cut
            case "client_gone":
                return self.client_gone
            case "interrupted":
                return self.interrupted
            case "out_of_credit":
                return self.out_of_credit
        return "free"


_STATUS: dict[Ending, Status] = {
    "finished": "ok",
    "failed": "failed",
    "cut": "failed",
    "client_gone": "cancelled",
    "interrupted": "cancelled",
    "out_of_credit": "ok",
    "expired": "expired",
}


def status_of(ending: Ending) -> Status:
    """How a receipt's `status` sums its ending up."""
    return _STATUS[ending]
