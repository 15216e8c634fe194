"""Alembic's environment: the schema of all rooms, over the connection that `app.schema` hands in."""

from alembic import context

import app.alerts.tables
import app.catalog.tables
import app.ledger.tables  # noqa: F401 (its tables join the metadata)
from app.base.database import metadata
from app.schema import include_name

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    render_as_batch=True,
    compare_type=True,
    include_name=include_name,
)
with context.begin_transaction():
    context.run_migrations()
