"""Somebody outside: knows the platform by HTTP alone, and keeps every promise it made.

A promise is an answer 201 (or 200, when the same request was answered before). At the
end the client asks for each promised job and downloads what it published. Whether a job
was lost or a model published twice is counted from that, and from nothing that the
platform says of itself.
"""

import hashlib
import io
import json
import time
import uuid
import zipfile
from dataclasses import dataclass

import httpx

PATIENCE_SECONDS = 60
RETRY_SECONDS = 0.2
TIMEOUT_SECONDS = 10
ENDED = ("succeeded", "failed", "cancelled")
AWAY = (500, 502, 503, 504)


@dataclass
class Promise:
    """A job that the platform has accepted.

    Args:
        job_id: Its number.
        model: The name its model is published under; no other job uses it.
        plan: What the trainer was told to do.
        may_fail: Whether failing is what this job should do.
        finished_early: Whether it was asked to finish now.
        shares: Whether two promises publish under this name.
    """

    job_id: int
    model: str
    plan: dict
    may_fail: bool = False
    finished_early: bool = False
    shares: bool = False


class Client:
    """A user with a token.

    Args:
        url: Address of the web.
        token: An API token.
        plans: Folder of the plans that the trainers read.
        log: The operation log.
    """

    def __init__(self, url, token, plans, log):
        self._http = httpx.Client(
            base_url=f"{url}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=TIMEOUT_SECONDS,
        )
        self._plans = plans
        self._log = log
        self.promises = {}

    def submit(self, *, overrides=None, may_fail=False, queue="default", **plan):
        """Submits one job until the platform has answered; returns the promise.

        Args:
            overrides: Fields of the training spec.
            may_fail: Whether the job should fail.
            queue: Whose workers do it.
            plan: What the toy trainer shall do.
        """
        model = f"model-{uuid.uuid4().hex[:12]}"
        (self._plans / f"{model}.json").write_text(json.dumps(plan))
        body = {
            "datasets": [1],
            "model_name": model,
            "specs": [{"preset": "fast", "overrides": overrides or {}}],
            "queue": queue,
        }
        answer = self.post("/jobs", body, key=model)
        job_id = answer["jobs"][0]["id"]
        self._log.add("client", "accepted", job=job_id, model=model)
        promise = Promise(job_id, model, plan, may_fail)
        self.promises[job_id] = promise
        return promise

    def adopt(self, job_id, other):
        """Notes a job that publishes under the name of another promise's model."""
        self._log.add("client", "accepted", job=job_id, model=other.model)
        self.promises[job_id] = Promise(job_id, other.model, other.plan, shares=True)
        other.shares = True

    def post(self, path, body=None, *, key):
        """Posts until it is answered; a key makes repeating harmless."""
        return self._until_answered(
            lambda: self._http.post(path, json=body, headers={"Idempotency-Key": key})
        ).json()

    def post_once(self, path, body=None, *, key):
        """Posts once; returns status and JSON."""
        answer = self._http.post(path, json=body, headers={"Idempotency-Key": key})
        return answer.status_code, answer.json()

    def ask(self, promise, verb):
        """Asks a job to cancel, pause, resume, finish or retry; returns the status.

        What is not answered was perhaps done: it is asked again, and a refusal is an
        answer.
        """
        path = f"/jobs/{promise.job_id}/{verb}"
        answer = self._until_answered(lambda: self._http.post(path))
        self._log.add("client", verb, job=promise.job_id, status=answer.status_code)
        if verb == "finish" and answer.status_code == httpx.codes.OK:
            promise.finished_early = True
        return answer.status_code

    def look(self, promise):
        """Returns the job as the API shows it."""
        return self.get(f"/jobs/{promise.job_id}")

    def get(self, path):
        """Gets until it is answered."""
        return self._until_answered(lambda: self._http.get(path)).json()

    def settle(self, seconds):
        """Waits until every promised job has ended; returns those that have not."""
        waiting = list(self.promises.values())
        deadline = time.monotonic() + seconds
        while waiting and time.monotonic() < deadline:
            states = self._list_states()
            waiting = [p for p in waiting if states.get(p.job_id) not in ENDED]
            time.sleep(RETRY_SECONDS)
        return waiting

    def collect(self):
        """Downloads everything; returns what each promise came to.

        Each is a dictionary: `job`, `state`, `reason`, `archives` (the digest, and what
        it holds, of every archive that the job's model name gives).
        """
        return [self._collect_one(promise) for promise in self.promises.values()]

    def _collect_one(self, promise):
        job = self.look(promise)
        model = self.get(f"/models/{promise.model}")
        archives = [
            self._download(promise.model, version["version"])
            for version in model.get("all_versions", [])
            if not promise.shares or version["job_id"] == promise.job_id
        ]
        return {
            "job": promise.job_id,
            "promise": promise,
            "state": job.get("state"),
            "reason": job.get("reason"),
            "archives": archives,
        }

    def _download(self, model, version):
        path = f"/models/{model}/versions/{version}"
        described = self.get(path)
        body = self._until_answered(lambda: self._http.get(f"{path}/archive")).content
        sha = hashlib.sha256(body).hexdigest()
        archive = {"version": version, "sha": sha, "whole": False, "weights": None}
        try:
            with zipfile.ZipFile(io.BytesIO(body)) as opened:
                archive["whole"] = opened.testzip() is None
                archive["weights"] = digest_weights(opened)
        except zipfile.BadZipFile:
            archive["whole"] = False
        archive["evaluation"] = described.get("evaluation", {})
        return archive

    def _list_states(self):
        states, page = {}, 1
        while True:
            answer = self.get(f"/jobs?page={page}&page_size=500")
            states |= {row["id"]: row["state"] for row in answer["items"]}
            if page * 500 >= answer["total"]:
                return states
            page += 1

    def _until_answered(self, send):
        deadline = time.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                answer = send()
            except httpx.TransportError as error:
                said = repr(error)
            else:
                if answer.status_code not in AWAY:
                    return answer
                said = f"{answer.status_code} {answer.text[:200]}"
            if time.monotonic() > deadline:
                raise TimeoutError(f"no answer within {PATIENCE_SECONDS} s: {said}")
            time.sleep(RETRY_SECONDS)


def digest_weights(archive):
    """Returns the SHA-256 over the files that hold weights, whoever made the model."""
    names = [n for n in archive.namelist() if "variables/" in n or n == "weights"]
    assert names, f"no weights in {archive.namelist()}"
    digest = hashlib.sha256()
    for name in sorted(names):
        digest.update(archive.read(name))
    return digest.hexdigest()
