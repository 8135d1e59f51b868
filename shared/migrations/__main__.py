"""Brings the database that the settings name to the newest revision."""

from shared.database import get_database, migrate

if __name__ == "__main__":
    migrate(get_database().url.render_as_string(hide_password=False))
