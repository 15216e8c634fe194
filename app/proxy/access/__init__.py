"""Step 1: the `sk-` key becomes a Caller. Junk is refused by its checksum; the rest by a cache of this process. Only
a miss asks the catalogue, and addresses that miss too often may not. Refuses to know how keys are stored."""

from app.proxy.access.keyring import Keyring
from app.proxy.access.last_use import LastUse
from app.proxy.access.permission import check_model

__all__ = ["Keyring", "LastUse", "check_model"]
