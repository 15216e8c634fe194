"""What a key may do: the models it may use, the addresses it may call from."""

import ipaddress

from app.base.errors import Forbidden
from app.proxy.records import Caller

__all__ = ["check_address", "check_model"]


def check_model(caller: Caller, model: str) -> None:
    """Raises Forbidden."""
    if caller.models is not None and model not in caller.models:
        raise Forbidden("model_not_allowed", f"This key may not use the model `{model}`.")


def check_address(caller: Caller, address: str) -> None:
    """Raises Forbidden."""
    if caller.networks is None:
        return
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        raise Forbidden("address_not_allowed", "This key may not be used from here.") from None
    if parsed.version == 6 and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    number = int(parsed)
    if not any(version == parsed.version and first <= number <= last for version, first, last in caller.networks):
        raise Forbidden("address_not_allowed", f"This key may not be used from {address}.")
