"""The ledger's tables. Rows of entries, postings and receipts are only ever added; a correction is a new entry.

Ledger accounts are texts: `wallet:<account>` is owed to a customer, `cash` was paid in, `revenue` was earned,
`cost:<channel>` was spent and `payable:<channel>` is owed to a vendor. A posting is positive on the side that grows the
customer's wallet, the revenue and the payables; each entry sums to zero.
"""

from sqlalchemy import JSON, BigInteger, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text

from app.base.database import metadata

__all__ = ["entries", "postings", "receipts", "wallets"]

_Id = String(40)

# One row an account: its balance is the sum of its postings, kept beside them and checked by verify.
wallets = Table(
    "wallets",
    metadata,
    Column("account_id", _Id, primary_key=True),
    Column("balance_nano", BigInteger, nullable=False),
    Column("credit_number", Integer, nullable=False),  # of the last credit in the journal
    Column("applied_number", Integer, nullable=False),  # of the last credit known to be in Redis
    Column("floor_nano", BigInteger, nullable=False),
)

entries = Table(
    "entries",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("kind", String(20), nullable=False),  # credit, usage
    Column("account_id", _Id, nullable=False, index=True),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("memo", Text, nullable=False),
    Column("credit_number", Integer),  # credits are numbered by account, so that Redis applies each once
    Column("idempotency_key", String(200)),
    Index("uq_entries_account_id_idempotency_key", "account_id", "idempotency_key", unique=True),
)

postings = Table(
    "postings",
    metadata,
    Column("entry_id", _Id, ForeignKey("entries.id"), primary_key=True),
    Column("ledger_account", String(60), primary_key=True),
    Column("amount_nano", BigInteger, nullable=False),
    Index("ix_postings_ledger_account", "ledger_account"),
)

receipts = Table(
    "receipts",
    metadata,
    Column("request_id", _Id, primary_key=True),  # sorts by time
    Column("entry_id", _Id, ForeignKey("entries.id")),  # the batch it was charged in; null where nothing moved
    Column("created_at_ms", BigInteger, nullable=False),
    Column("account_id", _Id, nullable=False),
    Column("key_id", _Id, nullable=False),
    Column("dialect", String(40), nullable=False),
    Column("model", String(200), nullable=False),
    Column("upstream_model", String(200)),
    Column("channel_id", _Id),
    Column("stream", Boolean, nullable=False),
    Column("status", String(12), nullable=False),
    Column("http_status", Integer, nullable=False),
    Column("finish_reason", String(40)),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_input_tokens", BigInteger, nullable=False),
    Column("cache_write_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("usage_source", String(12), nullable=False),
    Column("price_version", _Id, nullable=False),
    Column("amount_nano", BigInteger, nullable=False),
    Column("unpaid_nano", BigInteger, nullable=False),  # what the wallet could not pay of the amount
    Column("upstream_cost_nano", BigInteger, nullable=False),
    Column("attempts", JSON, nullable=False),
    Column("ttft_ms", BigInteger),
    Column("duration_ms", BigInteger, nullable=False),
    Index("ix_receipts_account_id_request_id", "account_id", "request_id"),
    Index("ix_receipts_key_id_request_id", "key_id", "request_id"),
    Index("ix_receipts_model_request_id", "model", "request_id"),
    Index("ix_receipts_channel_id_request_id", "channel_id", "request_id"),
)
