"""Fixtures for every tier; what they start, they start at first use."""

from __future__ import annotations

from tests.databases import database, database_url, mariadb_server, open_database, postgresql_server

__all__ = ["database", "database_url", "mariadb_server", "open_database", "postgresql_server"]
