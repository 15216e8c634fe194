"""Step 5: usage becomes an amount, and one Lua call ends the hold, charges the wallet and appends the receipt; exactly
once, at the end, at an error, or when the customer has gone. Leases of requests that run are renewed from here too."""

from app.proxy.settlement.clerk import Clerk, Trip
from app.proxy.settlement.leases import Leases

__all__ = ["Clerk", "Leases", "Trip"]
