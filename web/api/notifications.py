"""`/notifications` of the API: one's receivers, and what was sent to them."""

from dataclasses import asdict
from typing import Any

from pydantic import BaseModel, Field

from shared.notifications.event_store import Channel
from web.api.blueprint import blueprint, current_account
from web.api.schemas import PageQuery, Strict, Text
from web.installation import get_database, get_installation
from web.notifications import receivers, view


class ReceiverPath(BaseModel):
    """A receiver."""

    receiver_id: int = Field(description="Its number.")


class DeliveryPath(BaseModel):
    """A delivery."""

    delivery_id: int = Field(description="Its number.")


class ReceiverRequest(Strict):
    """Where to send what."""

    channel: Channel = Field(description="Mail goes to your own address.")
    address: Text = Field(
        default="", description="Of the webhook: https://... Empty for mail."
    )
    kinds: list[Text] = Field(
        default=[*receivers.KINDS],
        max_length=10,
        description="Of events: job.finished, job.failed, job.stalled.",
    )
    everyones: bool = Field(
        default=False, description="Of others' jobs, too; for admins."
    )


class ReceiverOut(BaseModel):
    """One receiver, with how many events were taken there, or not."""

    id: int
    channel: Channel
    address: str
    kinds: list[str]
    everyones: bool
    active: bool
    problem: str | None = Field(description="Why it was switched off.")
    created_at: int
    delivered: int
    waiting: int
    given_up: int
    secret: str | None = Field(
        default=None, description="Of a webhook: whsec_ and a key in Base64."
    )


class ReceiverList(BaseModel):
    """One's receivers."""

    items: list[ReceiverOut]


class TryOut(BaseModel):
    """One try and its answer."""

    number: int
    at: int
    took_ms: int
    status: int | None
    answer: str


class DeliveryOut(BaseModel):
    """One event on its way."""

    id: int
    event_id: str = Field(description="The header webhook-id: the same at each try.")
    kind: str
    at: int
    job_id: int | None
    title: str | None
    state: str = Field(description="waiting, delivered or given_up.")
    due_at: int | None = Field(description="Of the next try, in milliseconds.")
    tries: list[TryOut]


class DeliveryList(BaseModel):
    """One page of what was sent."""

    items: list[DeliveryOut]
    total: int
    page: int
    page_size: int


class OnItsWay(BaseModel):
    """What is on its way."""

    delivery_id: int


@blueprint.get("/notifications", responses={"200": ReceiverList})
def list_receivers() -> dict[str, Any]:
    """Lists your receivers."""
    with get_database().reading() as session:
        rows = view.list_receivers(session, current_account())
    return {"items": [asdict(row) for row in rows]}


@blueprint.post("/notifications", responses={"201": ReceiverOut})
def add_receiver(body: ReceiverRequest) -> tuple[dict[str, Any], int]:
    """Adds a receiver; one that is there already is changed."""
    receiver = receivers.add(
        get_installation(), current_account(), **body.model_dump(mode="json")
    )
    return _describe(receiver.id), 201


@blueprint.get("/notifications/<int:receiver_id>", responses={"200": ReceiverOut})
def get_receiver(path: ReceiverPath) -> dict[str, Any]:
    """Returns a receiver with its secret."""
    return _describe(path.receiver_id)


@blueprint.delete("/notifications/<int:receiver_id>", responses={"204": None})
def remove_receiver(path: ReceiverPath) -> tuple[str, int]:
    """Removes a receiver; what is on its way there is not sent."""
    receivers.remove(get_installation(), current_account(), path.receiver_id)
    return "", 204


@blueprint.post("/notifications/<int:receiver_id>/test", responses={"202": OnItsWay})
def test_receiver(path: ReceiverPath) -> tuple[dict[str, Any], int]:
    """Sends a test to a receiver."""
    number = receivers.test(get_installation(), current_account(), path.receiver_id)
    return {"delivery_id": number}, 202


@blueprint.get(
    "/notifications/<int:receiver_id>/deliveries", responses={"200": DeliveryList}
)
def list_deliveries(path: ReceiverPath, query: PageQuery) -> dict[str, Any]:
    """Lists what was sent to a receiver with the answers, the newest first."""
    with get_database().reading() as session:
        receivers.find(session, current_account(), path.receiver_id)
        found = view.list_deliveries(
            session, path.receiver_id, query.page, query.page_size
        )
    return asdict(found)


@blueprint.post("/deliveries/<int:delivery_id>/again", responses={"202": OnItsWay})
def send_again(path: DeliveryPath) -> tuple[dict[str, Any], int]:
    """Sends something once more, at once."""
    receivers.send_again(get_installation(), current_account(), path.delivery_id)
    return {"delivery_id": path.delivery_id}, 202


def _describe(receiver_id: int) -> dict[str, Any]:
    here, account = get_installation(), current_account()
    with here.database.reading() as session:
        receiver = receivers.find(session, account, receiver_id)
        row = view.make_receiver(receiver, account)
    return {**asdict(row), "secret": receivers.tell_secret(here, receiver)}
