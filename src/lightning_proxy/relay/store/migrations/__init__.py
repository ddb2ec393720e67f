"""Alembic's: one file in `versions` for each change of the relay's tables."""
