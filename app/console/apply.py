"""The catalogue, declared in one piece; see `tollgate apply` for the same from a file."""

from typing import Any

import msgspec
from litestar import Controller, post

from app.console.declared import Declared, apply_declared
from app.console.office import Office

__all__ = ["ApplyController"]


class ApplyController(Controller):
    path = "/apply"

    @post(status_code=200)
    async def put(self, office: Office, data: Declared, dry_run: bool = False) -> dict[str, Any]:
        """All of it or none, and what differs; a dry run writes nothing."""
        done = await apply_declared(office.database, office.sealer, office.default_base_urls, data, dry_run=dry_run)
        if not dry_run:
            for event in done.events:
                await office.announce(event)
        return {"applied": done.is_change and not dry_run, "changes": msgspec.to_builtins(done.changes)}
