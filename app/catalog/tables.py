"""The catalogue's tables. Times are milliseconds since 1970 UTC, money is nano-USD."""

from sqlalchemy import JSON, BigInteger, Boolean, Column, ForeignKey, Integer, LargeBinary, String, Table, Text

from app.base.database import metadata

__all__ = [
    "DEFAULT_BOOK",
    "accounts",
    "book_prices",
    "channels",
    "installation",
    "key_secrets",
    "keys",
    "models",
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
)

book_prices = Table(
    "book_prices",
    metadata,
    Column("book", String(100), ForeignKey("price_books.name"), primary_key=True),
    Column("model", String(200), primary_key=True),
    Column("price_version", _Id, nullable=False),
)
