"""What the commands ask of the platform's API, by name."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

from cli import up
from cli.http_client import HttpClient
from shared.errors import NotFoundError, UserError
from shared.settings import Settings, get_settings

WHOLE_SUBMISSION = 2000  # jobs
PAGE_SIZE = 500


class ApiClient(HttpClient):
    """One installation, as one user."""

    def find_dataset(self, wanted: str) -> dict[str, Any]:
        """Returns the dataset of that exact name, else of that number.

        Raises:
            NotFoundError: When there is neither.
        """
        for row in self.get("/datasets", search=wanted, page_size=PAGE_SIZE)["items"]:
            if row["name"] == wanted:
                return row
        if wanted.isdecimal():
            return self.get(f"/datasets/{wanted}")
        raise NotFoundError(
            f"There is no dataset {wanted!r}: `trainyard dataset list` shows all.",
            field="dataset",
        )

    def list_datasets(self) -> list[dict[str, Any]]:
        """Returns every dataset, the newest first."""
        return self._all("/datasets")

    def add_sources(
        self,
        sources: list[dict[str, str]],
        *,
        key: str,
        **wishes: Any,
    ) -> dict[str, Any]:
        """Adds uploads, paths of the server and addresses, together.

        `wishes` are further fields of the request; None leaves one out.
        """
        body: dict[str, Any] = {"sources": sources}
        body |= {name: value for name, value in wishes.items() if value is not None}
        return self.post("/datasets", body, key=key)

    def ask_forecast(self, dataset_id: int, **wishes: Any) -> dict[str, Any]:
        """Has a dataset version forecast, unless it is; returns how it stands."""
        body = {name: value for name, value in wishes.items() if value is not None}
        return self.post(f"/datasets/{dataset_id}/forecast", body)

    def get_forecast(
        self, dataset_id: int, version: int | None = None
    ) -> dict[str, Any]:
        """Returns the newest forecast of a dataset version."""
        return self.get(f"/datasets/{dataset_id}/forecast", version=version)

    def list_findings(self, dataset_id: int, **query: Any) -> list[dict[str, Any]]:
        """Returns every finding of the newest forecast of a dataset version."""
        return self._all(f"/datasets/{dataset_id}/findings", **query)

    def decide_findings(
        self, dataset_id: int, *, version: int, key: str, **wishes: Any
    ) -> dict[str, Any]:
        """Decides about findings of a version; returns what came of it.

        `wishes` are further fields of the request; None leaves one out.
        """
        return self._decide(
            f"/datasets/{dataset_id}/findings/decisions", version, key, wishes
        )

    def decide_pictures(
        self, dataset_id: int, *, version: int, key: str, **wishes: Any
    ) -> dict[str, Any]:
        """Decides about pictures of a version; returns the job that makes the next.

        `wishes` are further fields of the request; None leaves one out.
        """
        return self._decide(f"/datasets/{dataset_id}/decisions", version, key, wishes)

    def _decide(
        self, path: str, version: int, key: str, wishes: dict[str, Any]
    ) -> dict[str, Any]:
        told = {name: value for name, value in wishes.items() if value is not None}
        return self.post(path, {"version": version, **told}, key=key)

    def get_dataset_diff(self, dataset: int, version: int) -> dict[str, Any]:
        """Returns what a version changed against the one that it was made from."""
        return self.get(f"/datasets/{dataset}/versions/{version}/diff")

    def submit(
        self,
        *,
        datasets: list[int],
        specs: list[dict[str, Any]],
        key: str,
        **wishes: Any,
    ) -> dict[str, Any]:
        """Submits every dataset with every spec; returns the jobs.

        `wishes` are further fields of the request; None leaves one out.
        """
        body: dict[str, Any] = {"datasets": datasets, "specs": specs}
        body |= {name: value for name, value in wishes.items() if value is not None}
        return self.post("/jobs", body, key=key)

    def list_jobs(self, **query: Any) -> dict[str, Any]:
        """Returns one page of jobs, the newest first."""
        return self.get("/jobs", **query)

    def list_waiting(self, **query: Any) -> dict[str, Any]:
        """Returns one page of what waits, the next one to start first."""
        return self.get("/queue", **query)

    def list_queues(self) -> list[dict[str, Any]]:
        """Returns every queue with what is in it."""
        return self.get("/queues")["items"]

    def steer_queue(self, verb: str, **body: Any) -> dict[str, Any]:
        """Pauses or resumes a queue; returns the jobs that this touched."""
        return self.post(f"/queues/{verb}", body)

    def compare(self, group_key: str, sort: str | None = None) -> dict[str, Any]:
        """Returns all jobs of a submission side by side, the best first."""
        # In one answer: while jobs end, one may move to another page.
        return self.get(
            f"/groups/{quote(group_key, safe='')}/comparison",
            sort=sort,
            page_size=WHOLE_SUBMISSION,
        )

    def get_job(self, number: int) -> dict[str, Any]:
        """Returns one job."""
        return self.get(f"/jobs/{number}")

    def ask(self, number: int, verb: str, **body: Any) -> dict[str, Any]:
        """Asks a job to cancel, pause, resume, move and so on; returns it."""
        return self.post(f"/jobs/{number}/{verb}", body or None)

    def list_models(self) -> list[dict[str, Any]]:
        """Returns every model with its newest version."""
        return self._all("/models")

    def get_model_version(self, name: str, version: int | None) -> dict[str, Any]:
        """Returns one version with its evaluation; None means the newest."""
        return self.get(
            f"/models/{quote(name, safe='')}/versions/{version or 'latest'}"
        )

    def list_workers(self) -> list[dict[str, Any]]:
        """Returns the workers, those not heard of lately among them."""
        return self.get("/workers")["items"]

    def _all(self, path: str, **query: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        page = 0
        while True:
            page += 1
            answer = self.get(path, page=page, page_size=PAGE_SIZE, **query)
            rows += answer["items"]
            if not answer["items"] or len(rows) >= answer["total"]:
                return rows


def version_path(version: dict[str, Any]) -> str:
    """Returns where a model version lies in the API."""
    return f"/models/{quote(version['name'], safe='')}/versions/{version['version']}"


def connect(settings: Settings | None = None) -> ApiClient:
    """Returns a client of the installation that the settings name.

    That is TRAINYARD_URL with TRAINYARD_TOKEN, else the `up` that runs on the data
    folder, with its local token.

    Raises:
        UserError: When none runs here and none is named, or there is no token.
    """
    settings = settings or get_settings()
    url = settings.url
    if url is None:
        state = up.find_running(settings)
        url = state["local_url"] if state else f"http://127.0.0.1:{settings.port}"
    return ApiClient(url, settings.token or _local_token(settings))


def local_token_path(settings: Settings) -> Path:
    """Returns the file in which `up` leaves a token for this machine's commands."""
    return settings.data_dir / "local_token"


def _local_token(settings: Settings) -> str:
    path = local_token_path(settings)
    try:
        return path.read_text().strip()
    except OSError as error:
        raise UserError(
            f"There is no token in {path}: start the platform with `trainyard up`, or "
            "set TRAINYARD_URL and TRAINYARD_TOKEN.",
            field="token",
        ) from error
