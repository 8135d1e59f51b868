"""The four kinds of failure, and what each means for the job and for the user."""


class TrainyardError(Exception):
    """Base of every error that Trainyard raises on purpose."""


class UserError(TrainyardError):
    """Bad input: shown to the user as written, answered with 4xx, never retried.

    Args:
        message: One sentence naming the file or field, what is wrong and the fix.
        field: The form or JSON field at fault, when there is one.
    """

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotFoundError(UserError):
    """What was asked for does not exist, or is not visible to this user (404)."""


class ConflictError(UserError):
    """The object is in a state in which this cannot be done (409)."""


class RetryableError(TrainyardError):
    """The outside world failed: try again with back-off."""


class OutageError(RetryableError):
    """Something far away is out of reach: try again much later; nobody is to blame."""


class InternalError(TrainyardError):
    """Our bug: the traceback is logged and the page shows a reference."""


class OutdatedError(TrainyardError):
    """A dataset got another version meanwhile: this one is to be made from that."""


class LostLease(TrainyardError):  # noqa: N818 - control flow, not a failure
    """Another attempt owns the job: stop quietly and write nothing."""


class Cancelled(LostLease):
    """The user cancelled the job: publish nothing and end it as cancelled."""
