"""What a key may do: the doors that open to it, the models it may use, the addresses it may call from."""

from app.base.addresses import is_within
from app.base.errors import Forbidden
from app.base.scopes import Scope
from app.proxy.records import Caller

__all__ = ["check_address", "check_model", "check_scope"]


def check_scope(caller: Caller, scope: Scope) -> None:
    """Raises Forbidden."""
    if caller.scopes is not None and scope not in caller.scopes:
        raise Forbidden("scope_not_allowed", f"This key may not be used here: it lacks the scope `{scope}`.")


def check_model(caller: Caller, model: str) -> None:
    """Raises Forbidden."""
    if caller.models is not None and model not in caller.models:
        raise Forbidden("model_not_allowed", f"This key may not use the model `{model}`.")


def check_address(caller: Caller, address: str) -> None:
    """Raises Forbidden."""
    if caller.networks is not None and not is_within(address, caller.networks):
        raise Forbidden("address_not_allowed", f"This key may not be used from {address or 'here'}.")
