"""Fills an empty data folder with rows, to look at the pages by eye.

    python -m tests.web.seed DATA_DIR [JOBS]

Sign in as root@example.org (admin) or ana@example.org with the password it prints.
"""

import sys
from pathlib import Path

from flask_security.utils import hash_password

from shared import job_store
from shared.artifacts import Storage
from shared.database import Database, migrate
from shared.settings import Settings
from tests.web.rows import PASSWORD, Rows, make_told
from web.app import create_app

NAMES = ("solar cells", "leaf disease", "casting defects", "street signs at night")
LONG = "a very long dataset name that somebody typed without thinking of tables at all"
MANY_CLASSES = [f"class number {i}" for i in range(40)]


def seed(data_dir: Path, jobs: int = 12) -> None:
    """Makes users, datasets in every state, jobs in every state, models, workers."""
    settings = Settings(data_dir=data_dir, dataset_roots=[data_dir])
    settings.storage.mkdir(parents=True, exist_ok=True)
    secret = data_dir / "secret_key"
    secret.write_text("0" * 64)
    migrate(settings.database_address)
    database = Database(settings.database_address)
    rows = Rows(database, Storage(settings.storage))
    with create_app(settings, database).test_request_context():
        password_hash = hash_password(PASSWORD)
    admin = rows.user("root@example.org", "admin", password_hash)
    ana = rows.user("ana@example.org", "member", password_hash)
    rows.user("invited@example.org")
    lites = [f"EfficientNetLite{size}" for size in range(3)]
    rows.worker("station-1 cpu", base_models=make_told(lites))
    rows.worker("station-2 gpu-0", base_models=make_told([*lites, "MobileNet"]))
    rows.worker("station-1 ingest", kinds=("ingest",))

    datasets = [rows.dataset(ana, name, skipped=130) for name in NAMES]
    datasets.append(rows.dataset(admin, LONG, MANY_CLASSES))
    datasets.append(rows.dataset(ana, "<img src=x onerror=alert(1)>", ("<b>x", "y\"'")))
    rows.forecast(ana, datasets[0])
    _, failed = rows.reading(ana, "only one class")
    rows.fail(failed, "ingest")
    for dataset in datasets:
        rows.publish(rows.job(ana, dataset, f"model {dataset}", group_key="first"))
    rows.publish(rows.job(ana, datasets[4], "many classes"), MANY_CLASSES)
    rows.fail(rows.job(admin, datasets[0], LONG), reason=f"The {LONG} was not good.")
    rows.run(rows.job(ana, datasets[1], "leaf disease · EfficientNetLite0 · best"), 40)
    cancelled = rows.job(ana, datasets[1], "leaf disease · cancelled")
    paused = rows.job(ana, datasets[1], "leaf disease · paused")
    with database.transaction() as session:
        job_store.cancel(session, cancelled, actor="seed")
        job_store.pause(session, paused, actor="seed")
    for number in range(jobs):
        rows.job(ana, datasets[number % 4], f"queued {number}", group_key="second")
    rows.reading(ana, "still waiting to be read")
    _, reading = rows.reading(ana, "being read")
    del reading
    print(f"root@example.org, ana@example.org: {PASSWORD}")  # noqa: T201


if __name__ == "__main__":
    seed(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 12)
