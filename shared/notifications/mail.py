"""E-mail: what is written, and how it goes to the SMTP server of the settings."""

import contextlib
import smtplib
import ssl
import time
from collections import Counter
from collections.abc import Sequence
from email.message import EmailMessage
from email.utils import formatdate, make_msgid, parseaddr
from typing import Any

from shared.errors import UserError
from shared.notifications.delivery_store import Answer, Due
from shared.notifications.event_store import EventKind
from shared.settings import Settings

TRY_SECONDS = 15.0
MOST_TOLD = 50  # events of one mail in full
LONGEST_SUBJECT = 120
VERBS = {
    EventKind.FINISHED: "finished",
    EventKind.FAILED: "failed",
    EventKind.STALLED: "stalled",
    EventKind.TEST: "test",
}


def require_set_up(settings: Settings) -> None:
    """Raises `UserError` where this installation sends no mail."""
    if not settings.smtp_host or not settings.mail_from:
        raise UserError(
            "This installation sends no e-mail: an administrator has to set "
            "TRAINYARD_SMTP_HOST and TRAINYARD_MAIL_FROM.",
            field="channel",
        )


def can_receive(address: str) -> bool:
    """Whether a sign-in name is an address to which mail can be sent."""
    _, parsed = parseaddr(address)
    return parsed == address and "@" in address and address.isascii()


def send(settings: Settings, events: Sequence[Due]) -> Answer:
    """Sends one mail that tells of these events of one receiver; never raises."""
    began = time.monotonic()
    try:
        require_set_up(settings)
        message = write(events, str(settings.mail_from), settings.public_url)
        _hand_over(settings, message)
    except smtplib.SMTPResponseException as error:
        answer = Answer(False, _tell(error.smtp_error), error.smtp_code)
    except smtplib.SMTPRecipientsRefused as error:
        code, words = next(iter(error.recipients.values()))
        answer = Answer(False, _tell(words), code)
    except Exception as error:  # noqa: BLE001 - whatever a server does, it is told
        answer = Answer(False, _tell(str(error)) or type(error).__name__)
    else:
        answer = Answer(True, "Taken by the mail server.", 250)
    took_ms = int(1000 * (time.monotonic() - began))
    return Answer(answer.good, answer.text, answer.status, took_ms)


def write(events: Sequence[Due], sender: str, public_url: str | None) -> EmailMessage:
    """Returns the mail that tells of these events."""
    message = EmailMessage()
    message["Subject"] = _title(events)
    message["From"] = sender
    message["To"] = events[0].address
    message["Date"] = formatdate()
    # The same for the same event, so that a mail that is sent again counts once.
    domain = parseaddr(sender)[1].rpartition("@")[2] or "localhost"
    known = f"<{events[0].key}.{events[0].receiver_id}.{len(events)}@{domain}>"
    message["Message-ID"] = known if domain.isascii() else make_msgid()
    message["Auto-Submitted"] = "auto-generated"
    told = [_describe(event, public_url) for event in events[:MOST_TOLD]]
    if len(events) > MOST_TOLD:
        told.append(f"... and {len(events) - MOST_TOLD} more.")
    told.append(
        "You get this because your account asks for it"
        + (f": {public_url.rstrip('/')}/notifications" if public_url else ".")
    )
    message.set_content("\n\n".join(told) + "\n")
    return message


def _title(events: Sequence[Due]) -> str:
    if len(events) == 1:
        event = events[0]
        subject = event.facts.get("title", "")
        words = f"{VERBS[EventKind(event.kind)].capitalize()}: {subject}"
    else:
        counts = Counter(VERBS[EventKind(event.kind)] for event in events)
        words = ", ".join(f"{count} {verb}" for verb, count in counts.items())
    # A title with a line break in it would add headers.
    return " ".join(f"[Trainyard] {words}".split())[:LONGEST_SUBJECT]


def _describe(event: Due, public_url: str | None) -> str:
    facts = event.facts
    if event.kind == EventKind.TEST:
        return facts["message"]
    verb = VERBS[EventKind(event.kind)]
    lines = [f"Job {facts['job_id']} ({facts['title']}) {verb}."]
    lines += [facts["reason"]] if facts.get("reason") else []
    lines += [_tell_model(facts)] if facts.get("version") is not None else []
    if public_url:
        lines.append(f"{public_url.rstrip('/')}/jobs/{facts['job_id']}")
    return "\n".join(lines)


def _tell_model(facts: dict[str, Any]) -> str:
    words = f"Published: {facts['model']}, version {facts['version']}"
    accuracy = facts.get("accuracy")
    return words + (f", accuracy {accuracy:.1%}." if accuracy is not None else ".")


def _hand_over(settings: Settings, message: EmailMessage) -> None:
    host, port = str(settings.smtp_host), settings.smtp_port
    context = ssl.create_default_context()
    if settings.smtp_security == "tls":
        server: smtplib.SMTP = smtplib.SMTP_SSL(
            host, port, timeout=TRY_SECONDS, context=context
        )
    else:
        server = smtplib.SMTP(host, port, timeout=TRY_SECONDS)
    try:
        if settings.smtp_security == "starttls":
            server.starttls(context=context)
        if settings.smtp_user:
            server.login(settings.smtp_user, settings.read_smtp_password())
        server.send_message(message)
    finally:
        # Taken is taken, whatever it answers to the farewell.
        with contextlib.suppress(smtplib.SMTPException, OSError):
            server.quit()
        server.close()


def _tell(words: bytes | str) -> str:
    text = words.decode("utf-8", "replace") if isinstance(words, bytes) else words
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:300]
