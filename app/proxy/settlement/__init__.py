"""Step 5: usage becomes an amount, and one Lua call ends the hold, charges the wallet and appends the receipt; exactly
once, at the end, at an error, or when the customer has gone. What Redis can't take is spooled to the disk and replayed.
Leases of requests that run are renewed, and the holds of long streams extended, from here too."""

from app.proxy.settlement.clerk import Clerk, IsPosted, Trip
from app.proxy.settlement.leases import Leases
from app.proxy.settlement.meter import Meter
from app.proxy.settlement.policies import Policies
from app.proxy.settlement.spool import Spool

__all__ = ["Clerk", "IsPosted", "Leases", "Meter", "Policies", "Spool", "Trip"]
