"""What users ask of their receivers: one use case for the page and the API."""

from collections.abc import Sequence

from sqlalchemy.orm import Session

from shared import audit_store
from shared.errors import NotFoundError, UserError
from shared.notifications import delivery_store, mail, receiver_store, webhooks
from shared.notifications.event_store import Channel, EventKind, announce_test
from shared.notifications.tables import Receiver
from web.auth.datastore import Account
from web.installation import Installation
from web.permissions import require_admin

KINDS = (EventKind.FINISHED, EventKind.FAILED, EventKind.STALLED)
OBJECT = "receiver"


def add(
    here: Installation,
    account: Account,
    *,
    channel: str,
    address: str,
    kinds: Sequence[str],
    everyones: bool,
) -> Receiver:
    """Adds a receiver of this user's.

    Raises:
        ConflictError: When the user has as many as one may have.
        NotAllowedError: When somebody but an admin asks for others' jobs.
        UserError: Naming the value that cannot be.
    """
    wanted = _read_kinds(kinds)
    if everyones:
        require_admin(account)
    if channel == Channel.WEBHOOK:
        address = webhooks.check_address(address, here.settings.webhook_networks)
    elif channel == Channel.EMAIL:
        address = _check_mail(here, account, address)
    else:
        raise UserError(
            f"`channel` must be one of {', '.join(Channel)}. Received: {channel!r}.",
            field="channel",
        )

    def write(session: Session) -> Receiver:
        receiver = receiver_store.add(
            session, owner_id=account.id, channel=Channel(channel), address=address,
            kinds=wanted, everyones=everyones,
        )  # fmt: skip
        # The address stays out: there are services whose addresses are secrets.
        audit_store.record(
            session, account.actor, "receiver_added", OBJECT, receiver.id,
            {"channel": channel, "kinds": list(kinds), "everyones": everyones},
        )  # fmt: skip
        return receiver

    return here.database.tx(write)


def remove(here: Installation, account: Account, receiver_id: int) -> None:
    """Removes one of one's own receivers, with what is still on its way there.

    Raises:
        NotFoundError: When there is none of that number, or it is somebody else's.
    """

    def write(session: Session) -> None:
        find(session, account, receiver_id)
        receiver_store.remove(session, receiver_id)
        audit_store.record(
            session, account.actor, "receiver_removed", OBJECT, receiver_id
        )

    here.database.tx(write)


def test(here: Installation, account: Account, receiver_id: int) -> int:
    """Sends a test to one of one's own receivers; returns the delivery's number.

    Raises:
        NotFoundError: As for `remove`.
    """

    def write(session: Session) -> int:
        return announce_test(session, find(session, account, receiver_id))

    return here.database.tx(write)


def send_again(here: Installation, account: Account, delivery_id: int) -> int:
    """Makes a delivery due at once; returns the number of its receiver.

    Raises:
        ConflictError: When its receiver is switched off.
        NotFoundError: As for `remove`.
    """

    def write(session: Session) -> int:
        delivery = delivery_store.get(session, delivery_id)
        find(session, account, delivery.receiver_id)
        delivery_store.send_again(session, delivery_id)
        return delivery.receiver_id

    return here.database.tx(write)


def find(session: Session, account: Account, receiver_id: int) -> Receiver:
    """Returns one of one's own receivers; others' are not to be seen.

    Raises:
        NotFoundError: As for `remove`.
    """
    receiver = receiver_store.get(session, receiver_id)
    if receiver.owner_id != account.id:
        raise NotFoundError(f"There is no receiver {receiver_id}.")
    return receiver


def tell_secret(here: Installation, receiver: Receiver) -> str | None:
    """Returns the secret by which a receiver's server knows that it was us."""
    if receiver.channel != Channel.WEBHOOK:
        return None
    return webhooks.derive_secret(here.settings.read_secret_key(), receiver.salt)


def _check_mail(here: Installation, account: Account, address: str) -> str:
    """Returns what is kept: mail goes to the account's own address, whatever it is."""
    mail.require_set_up(here.settings)
    if not mail.can_receive(account.email):
        raise UserError(
            f"No mail can be sent to {account.email!r}: your sign-in name is not an "
            "e-mail address.",
            field="channel",
        )
    if address.strip() not in {"", account.email}:
        raise UserError(
            f"`address` must be empty: mail goes to {account.email} alone. "
            f"Received: {address!r}.",
            field="address",
        )
    return ""


def _read_kinds(kinds: Sequence[str]) -> list[EventKind]:
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise UserError(
            f"`kinds` must name one or more of {', '.join(KINDS)}. "
            f"Received: {', '.join(unknown) or 'none'}.",
            field="kinds",
        )
    return [kind for kind in KINDS if kind in kinds]
