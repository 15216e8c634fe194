"""Where requests would go, and why."""

from typing import Annotated, Any

from litestar import Controller, get
from litestar.params import Parameter

from app.base.errors import InvalidField
from app.console.office import Office

__all__ = ["RoutesController"]


class RoutesController(Controller):
    path = "/routes"

    @get("/explain")
    async def explain(
        self,
        office: Office,
        key_id: str = "",
        model: str = "",
        conversation: Annotated[str | None, Parameter(max_length=2000)] = None,
    ) -> dict[str, Any]:
        """Each way to a model for a key's requests, in order: taken or passed over, and why."""
        for name, value in (("key_id", key_id), ("model", model)):
            if not value:
                raise InvalidField(name, "is required")
        return await office.explain_route(key_id, model, conversation)
