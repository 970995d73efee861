"""The database adapter: catalogue, queue and journal on SQLite, PostgreSQL and MariaDB through SQLAlchemy Core."""
