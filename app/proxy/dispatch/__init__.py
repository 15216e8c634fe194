"""Step 3: which channels, in which order, and how they are. The choice is pure; the health is learnt from every answer
and shared between workers in the background; only a vendor's limit is ever waited for, and not long."""

from app.proxy.dispatch.change import Change, WayHealth
from app.proxy.dispatch.dispatcher import Dispatcher
from app.proxy.dispatch.health import Health
from app.proxy.dispatch.news import News, read_health

__all__ = ["Change", "Dispatcher", "Health", "News", "WayHealth", "read_health"]
