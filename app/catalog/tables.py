"""The catalogue's tables. Times are milliseconds since 1970 UTC, money is nano-USD."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, ForeignKey, Index, Integer, LargeBinary, String, Table, Text
from sqlalchemy.sql.expression import false

from app.base.database import metadata

__all__ = [
    "DEFAULT_BOOK",
    "accounts",
    "book_prices",
    "channel_events",
    "channels",
    "installation",
    "key_secrets",
    "keys",
    "models",
    "operators",
    "price_books",
    "price_versions",
]

_Id = String(40)

# The price book of accounts that name no other: a model's own prices, once.
DEFAULT_BOOK = "default"

installation = Table(
    "installation",
    metadata,
    Column("name", String(40), primary_key=True),
    Column("value", Text, nullable=False),
)

accounts = Table(
    "accounts",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String(200), nullable=False),
    Column("book", String(100), nullable=False, server_default=DEFAULT_BOOK),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("parent_id", _Id, index=True),  # null: nobody's member
    Column("wallet", String(10), nullable=False, server_default="own"),  # or `shared`: its parent's
    Column("limits", JSON, nullable=False, server_default="{}"),
    Column("model_limits", JSON, nullable=False, server_default="{}"),  # public name -> limits
    Column("budgets", JSON, nullable=False, server_default="[]"),
    Column("time_zone", String(60), nullable=False, server_default="UTC"),
    Column("may_issue_keys", Boolean, nullable=False, server_default=false()),
)

# People and programs who run a part of the house: the accounts below one.
operators = Table(
    "operators",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String(200), nullable=False),
    Column("account_id", _Id, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("hint", String(20), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

keys = Table(
    "keys",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("account_id", _Id, ForeignKey("accounts.id"), nullable=False, index=True),
    Column("name", String(200), nullable=False),
    Column("models", JSON),  # null: every model
    Column("allowed_cidrs", JSON),  # null: every address
    Column("expires_at_ms", BigInteger),
    Column("rpm", Integer, nullable=False),  # 0: no limit
    Column("tpm", BigInteger, nullable=False),
    Column("concurrency", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("rpd", BigInteger, nullable=False, server_default="0"),
    Column("tpd", BigInteger, nullable=False, server_default="0"),
    Column("budgets", JSON, nullable=False, server_default="[]"),
    Column("scopes", JSON),  # null: every endpoint
    Column("note", Text, nullable=False, server_default=""),
    Column("tags", JSON, nullable=False, server_default="[]"),
    Column("owner", String(200), nullable=False, server_default=""),
    Column("may_issue", Boolean, nullable=False, server_default=false()),
    Column("issued_by", _Id, index=True),  # the key that issued it
    Column("last_used_at_ms", BigInteger),  # written lazily: a minute behind
    Column("last_used_address", String(60)),
)

# A key has one secret, and during a rotation two. Only hashes are kept.
key_secrets = Table(
    "key_secrets",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("key_id", _Id, ForeignKey("keys.id"), nullable=False, index=True),
    Column("hint", String(20), nullable=False),
    Column("expires_at_ms", BigInteger),
    Column("created_at_ms", BigInteger, nullable=False),
)

channels = Table(
    "channels",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("name", String(200), nullable=False),
    Column("provider", String(40), nullable=False),
    Column("base_url", Text, nullable=False),
    Column("sealed_credentials", LargeBinary, nullable=False),
    Column("models", JSON, nullable=False),  # public name -> upstream name
    Column("cost_versions", JSON, nullable=False),  # upstream name -> price version
    Column("timeouts", JSON, nullable=False),
    Column("priority", Integer, nullable=False),
    Column("weight", Integer, nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("sealed_shaping", LargeBinary),  # null: none
    Column("limits", JSON, nullable=False, server_default="{}"),
    Column("draining", Boolean, nullable=False, server_default=false()),
    Column("test_every_s", Integer),  # null: only when asked to
    Column("limit_field", String(40)),  # null: the provider's
    Column("priced_fields", JSON, nullable=False, server_default="{}"),  # request field -> what becomes of it
)

# What happened to channels, and why: only ever added to.
channel_events = Table(
    "channel_events",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("channel_id", _Id, nullable=False),
    Column("credential_id", String(80)),
    Column("model", String(200)),
    Column("kind", String(40), nullable=False),
    Column("reason", Text, nullable=False),
    Column("actor", String(40), nullable=False),  # operator, traffic or schedule
    Index("ix_channel_events_channel_id_id", "channel_id", "id"),
)

models = Table(
    "models",
    metadata,
    Column("name", String(200), primary_key=True),
    Column("context_length", Integer),
    Column("max_output_tokens", Integer),
    Column("description", Text, nullable=False),
    Column("fallbacks", JSON, nullable=False),
    Column("price_version", _Id),  # null: not on sale
    Column("created_at_ms", BigInteger, nullable=False),
    Column("routing", JSON, nullable=False, server_default="{}"),
    Column("limits", JSON, nullable=False, server_default="{}"),
    Column("total_limits", JSON, nullable=False, server_default="{}"),
    Column("media", JSON, nullable=False, server_default="{}"),  # kind of part -> the most tokens that one can cost
)

# Never edited: a new price is a new version, so that an old receipt can be recomputed. Those with a channel are what it
# costs there, by its upstream name; those with a book are what its customers pay instead of the model's own.
price_versions = Table(
    "price_versions",
    metadata,
    Column("id", _Id, primary_key=True),
    Column("model", String(200), nullable=False, index=True),
    Column("book", String(100)),
    Column("channel_id", _Id),
    Column("prices", JSON, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
)

# A book's customers pay `multiplier` millionths of each model's own prices, but for models that the book prices itself.
price_books = Table(
    "price_books",
    metadata,
    Column("name", String(100), primary_key=True),
    Column("multiplier", BigInteger, nullable=False),
    Column("description", Text, nullable=False),
    Column("created_at_ms", BigInteger, nullable=False),
    Column("limits", JSON, nullable=False, server_default="{}"),
)

book_prices = Table(
    "book_prices",
    metadata,
    Column("book", String(100), ForeignKey("price_books.name"), primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("price_version", _Id, nullable=False),
)
