"""members and their limits, more of a key, operators of a part of the house

Revision ID: 0005
Revises: 0004
"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    def add(table: str, name: str, kind: sa.types.TypeEngine[object], default: object = None) -> None:
        op.add_column(table, sa.Column(name, kind, nullable=default is None, server_default=default))  # type: ignore[arg-type]

    add("accounts", "parent_id", sa.String(length=40))
    add("accounts", "wallet", sa.String(length=10), "own")
    add("accounts", "limits", sa.JSON(), "{}")
    add("accounts", "model_limits", sa.JSON(), "{}")
    add("accounts", "budgets", sa.JSON(), "[]")
    add("accounts", "time_zone", sa.String(length=60), "UTC")
    add("accounts", "may_issue_keys", sa.Boolean(), sa.false())
    op.create_index("ix_accounts_parent_id", "accounts", ["parent_id"])
    add("keys", "rpd", sa.BigInteger(), "0")
    add("keys", "tpd", sa.BigInteger(), "0")
    add("keys", "budgets", sa.JSON(), "[]")
    add("keys", "scopes", sa.JSON())
    add("keys", "note", sa.Text(), "")
    add("keys", "tags", sa.JSON(), "[]")
    add("keys", "owner", sa.String(length=200), "")
    add("keys", "may_issue", sa.Boolean(), sa.false())
    add("keys", "issued_by", sa.String(length=40))
    add("keys", "last_used_at_ms", sa.BigInteger())
    add("keys", "last_used_address", sa.String(length=60))
    op.create_index("ix_keys_issued_by", "keys", ["issued_by"])
    add("models", "limits", sa.JSON(), "{}")
    add("models", "total_limits", sa.JSON(), "{}")
    add("price_books", "limits", sa.JSON(), "{}")
    op.create_table(
        "operators",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.String(length=200), nullable=False),
        sa.Column("account_id", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.LargeBinary(length=32), nullable=False),
        sa.Column("hint", sa.String(length=20), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("created_at_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["account_id"], ["accounts.id"], name=op.f("fk_operators_account_id_accounts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_operators")),
        sa.UniqueConstraint("digest", name=op.f("uq_operators_digest")),
    )
    op.create_index("ix_operators_account_id", "operators", ["account_id"])
    add("receipts", "member_id", sa.String(length=40))
    is_member = sa.text("member_id IS NOT NULL")
    op.create_index(
        "ix_receipts_member_id_request_id",
        "receipts",
        ["member_id", "request_id"],
        postgresql_where=is_member,
        sqlite_where=is_member,
    )
