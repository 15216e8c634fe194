"""Step 5: usage becomes an amount, and one Lua call ends the hold, charges the wallet and appends the receipt; exactly
once, at the end, at an error, or when the customer has gone. What Redis can't take is spooled to the disk and replayed.
Leases of requests that run are renewed, the holds of long streams extended, and what a Redis that lost writes lacks is
handed in again, from here too."""

from app.proxy.settlement.clerk import Clerk, IsPosted, Trip
from app.proxy.settlement.leases import Leases
from app.proxy.settlement.meter import Meter
from app.proxy.settlement.policies import Policies
from app.proxy.settlement.recovery import Recovery
from app.proxy.settlement.spool import Spool
from app.proxy.settlement.unposted import Unposted

__all__ = ["Clerk", "IsPosted", "Leases", "Meter", "Policies", "Recovery", "Spool", "Trip", "Unposted"]
