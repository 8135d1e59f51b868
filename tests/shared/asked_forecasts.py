"""Forecasts as somebody asks for them, and the jobs that this makes."""

from shared import forecast_store
from shared.tables import Job


def list_forecast_jobs(database):
    with database.reading() as s:
        return s.query(Job).where(Job.kind == "forecast").order_by(Job.id).all()


def ask(database, version_id, owner_id, **wishes):
    return database.tx(
        lambda s: forecast_store.ask(s, version_id, owner_id=owner_id, **wishes)
    )
