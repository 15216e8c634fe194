"""The ledger's tables. Rows of entries, postings and receipts are only ever added, and triggers refuse anything else; a
correction is a new entry.

Ledger accounts are texts: `wallet:<account>` is owed to a customer, `promo:<account>` was given to one, `cash` was paid
in, `promotions` was given away, `revenue` was earned, `adjustments` were made, `cost:<channel>` was spent and
`payable:<channel>` is owed to a vendor. A posting is positive on the side that grows the customer's wallet, the revenue
and the payables; each entry sums to zero.
"""

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Date,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    false,
    text,
)

from app.base.database import metadata

__all__ = ["debits", "entries", "lots", "postings", "receipts", "usage_days", "vouchers", "wallets"]

_Id = String(40)
# Sorts by its bytes, whatever the database's language: PostgreSQL keeps receipts by month of their id.
_RequestId = String(40).with_variant(String(40, collation="C"), "postgresql")

# One row an account: its balance is the sum of its postings, promotional ones included; kept beside them, and checked
# by verify.
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
    # credit, usage, costs (of no account), lapse, adjustment, refund, credit_line, repair (moves nothing)
    Column("kind", String(20), nullable=False),
    Column("account_id", _Id, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("memo", Text, nullable=False),
    Column("credit_number", Integer),  # credits are numbered by account, so that Redis applies each once
    Column("idempotency_key", String(200)),
    Column("corrects", String(80)),  # the entry or the request that this one puts right
    Index("ix_entries_account_id_created_at_ms_id", "account_id", "created_at_ms", "id"),
    Index(
        "ix_entries_account_id_created_at_ms",  # an account has few that are not of usage, and many that are
        "account_id",
        "created_at_ms",
        postgresql_where=text("kind <> 'usage'"),
        sqlite_where=text("kind <> 'usage'"),
    ),
    Index("uq_entries_account_id_idempotency_key", "account_id", "idempotency_key", unique=True),
    # A busy account has an entry a batch: its few credits are found without them.
    Index(
        "uq_entries_account_id_credit_number",
        "account_id",
        "credit_number",
        unique=True,
        postgresql_where=text("credit_number IS NOT NULL"),
        sqlite_where=text("credit_number IS NOT NULL"),
    ),
    Index(
        "ix_entries_corrects",
        "corrects",
        postgresql_where=text("corrects IS NOT NULL"),
        sqlite_where=text("corrects IS NOT NULL"),
    ),
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
    Column("request_id", _RequestId, primary_key=True),  # sorts by time
    Column("entry_id", _Id, ForeignKey("entries.id")),  # the batch it was charged in; null where nothing moved
    Column("created_at_ms", BigInteger, nullable=False),
    Column("account_id", _Id, nullable=False),
    Column("key_id", _Id, nullable=False),
    Column("dialect", String(40), nullable=False),
    Column("model", String(200), nullable=False),
    Column("requested_model", String(200)),  # where `model` served in its place
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
    Column("cache_write_1h_tokens", BigInteger, nullable=False, server_default="0"),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("audio_input_tokens", BigInteger, nullable=False, server_default="0"),
    Column("audio_output_tokens", BigInteger, nullable=False, server_default="0"),
    Column("image_input_tokens", BigInteger, nullable=False, server_default="0"),
    Column("image_output_tokens", BigInteger, nullable=False, server_default="0"),
    Column("usage_source", String(12), nullable=False),
    Column("price_version", _Id, nullable=False),
    Column("multiplier", BigInteger, nullable=False, server_default="1000000"),  # millionths
    Column("ending", String(20), nullable=False, server_default="finished"),
    Column("policy", String(12), nullable=False, server_default="full"),
    Column("amount_nano", BigInteger, nullable=False),
    Column("unpaid_nano", BigInteger, nullable=False),  # what the wallet could not pay of the amount
    Column("upstream_cost_nano", BigInteger, nullable=False),
    Column("attempts", JSON, nullable=False),
    Column("ttft_ms", BigInteger),
    Column("duration_ms", BigInteger, nullable=False),
    Column("member_id", _Id),  # whose key it was, where that is not the account that pays
    # What lots paid of it, `<lot>:<nano>` each, in the order they were spent; null where none did, or before 0006.
    Column("lot_parts", Text),
    Column("extras", JSON),  # what is charged beside the tokens; null: nothing
    Column("vendor_excess", Boolean, nullable=False, server_default=false()),  # its figures went beyond the bound
    Index("ix_receipts_account_id_request_id", "account_id", "request_id"),
    Index("ix_receipts_key_id_request_id", "key_id", "request_id"),
    Index(
        "ix_receipts_member_id_request_id",
        "member_id",
        "request_id",
        postgresql_where=text("member_id IS NOT NULL"),
        sqlite_where=text("member_id IS NOT NULL"),
    ),
    Index("ix_receipts_model_request_id", "model", "request_id"),
    Index("ix_receipts_channel_id_request_id", "channel_id", "request_id"),
    Index(
        "ix_receipts_status_request_id",  # of the few that are looked for by it
        "status",
        "request_id",
        postgresql_where=text("status <> 'ok'"),
        sqlite_where=text("status <> 'ok'"),
    ),
    postgresql_partition_by="RANGE (request_id)",
)

# Money that is to be taken from wallets, written before Redis is asked for it. Redis takes it once by its id, which is
# that of the entry that is posted from the stream.
debits = Table(
    "debits",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("account_id", _Id, nullable=False, index=True),
    Column("amount_nano", BigInteger, nullable=False),
    Column("memo", Text, nullable=False),
    Column("corrects", String(80)),
    Column("idempotency_key", String(200)),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("asked_at_ms", BigInteger, nullable=False),  # when Redis was last asked
    Column("unanswered", Integer, nullable=False),  # calls to Redis of which nobody knows whether they ran
    Column("state", String(12), nullable=False),  # asked, taken, refused, abandoned
    CheckConstraint("amount_nano > 0", name="amount_nano"),
    Index("uq_debits_account_id_idempotency_key", "account_id", "idempotency_key", unique=True),
    Index(
        "ix_debits_asked_at_ms",
        "asked_at_ms",
        postgresql_where=text("state = 'asked'"),
        sqlite_where=text("state = 'asked'"),
    ),
)

# Credits that are promotional or expire, and what is left of each: spent in order, the promotional ones first, the one
# that expires next first; the rest of a wallet comes last.
lots = Table(
    "lots",
    metadata,
    Column("entry_id", _Id, ForeignKey("entries.id"), primary_key=True),
    Column("account_id", _Id, nullable=False, index=True),
    Column("promotional", Boolean, nullable=False),
    Column("amount_nano", BigInteger, nullable=False),
    Column("remaining_nano", BigInteger, nullable=False),
    Column("expires_at_ms", BigInteger),
    CheckConstraint("remaining_nano BETWEEN 0 AND amount_nano", name="remaining_nano"),
    Index(
        "ix_lots_expires_at_ms",
        "expires_at_ms",
        postgresql_where=text("remaining_nano > 0"),
        sqlite_where=text("remaining_nano > 0"),
    ),
)

# Sums of receipts by day (UTC), kept by whoever posts them, checked by verify: statements and margins read these. The
# cost of an attempt that failed is on the row of its own channel, which has no request of it.
usage_days = Table(
    "usage_days",
    metadata,
    Column("account_id", _Id, primary_key=True),
    Column("day", Date, primary_key=True),
    Column("key_id", _Id, primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("channel_id", _Id, primary_key=True),  # empty where none served
    Column("requests", BigInteger, nullable=False),
    Column("input_tokens", BigInteger, nullable=False),
    Column("output_tokens", BigInteger, nullable=False),
    Column("cached_input_tokens", BigInteger, nullable=False),
    Column("amount_nano", BigInteger, nullable=False),
    Column("unpaid_nano", BigInteger, nullable=False),
    Column("upstream_cost_nano", BigInteger, nullable=False),
    Index("ix_usage_days_day", "day"),
)

# Codes that customers redeem for credit, each once; only hashes are kept.
vouchers = Table(
    "vouchers",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("id", _Id, nullable=False, unique=True),
    Column("batch_id", _Id, nullable=False, index=True),
    Column("hint", String(20), nullable=False),
    Column("amount_nano", BigInteger, nullable=False),
    Column("promotional", Boolean, nullable=False),
    Column("credit_days", Integer),  # how long the credit lasts once redeemed; null: for good
    Column("expires_at_ms", BigInteger),
    Column("note", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("cancelled_at_ms", BigInteger),
    Column("redeemed_at_ms", BigInteger),
    Column("redeemed_by", _Id),
    Column("entry_id", _Id),
    CheckConstraint("amount_nano > 0", name="amount_nano"),
)
