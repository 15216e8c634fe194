"""what a receipt charges beside its tokens, and whether its vendor went beyond the bound

Revision ID: 0008
Revises: 0007
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("receipts", sa.Column("extras", sa.JSON()))
    op.add_column("receipts", sa.Column("vendor_excess", sa.Boolean(), nullable=False, server_default=sa.false()))
