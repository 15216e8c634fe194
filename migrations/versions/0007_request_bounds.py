"""bounds of media parts, the field of a vendor's bound, fields with a price of their own

Revision ID: 0007
Revises: 0006
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("models", sa.Column("media", sa.JSON(), nullable=False, server_default="{}"))
    op.add_column("channels", sa.Column("limit_field", sa.String(length=40), nullable=True))
    op.add_column("channels", sa.Column("priced_fields", sa.JSON(), nullable=False, server_default="{}"))
