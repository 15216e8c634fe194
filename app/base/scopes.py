"""What a customer key may be used for: the doors of `/v1` name theirs, keys list the ones that open to them."""

from typing import Literal, get_args

__all__ = ["SCOPES", "Scope"]

# `key` shows a key itself, `keys` issues others; `billing` is balance and vouchers.
Scope = Literal["chat", "models", "receipts", "billing", "key", "keys"]
SCOPES: tuple[Scope, ...] = get_args(Scope)
