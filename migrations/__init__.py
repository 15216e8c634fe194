"""Alembic's migrations: one line of them, for SQLite and PostgreSQL alike."""
