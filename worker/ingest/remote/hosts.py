"""Which servers give files, and which do not answer any more."""

from collections import Counter

from shared.errors import OutageError
from shared.source_addresses import Address
from worker.ingest.remote.answers import FetchError

Host = tuple[str, str, int]


class Hosts:
    """What became of the files of one source, by server, in the order asked.

    A server that has given nothing is left alone after some files in a row: it is not
    asked a million times. Its files are left out, if others came. One that gave files
    and then falls silent will be back: the attempt ends, for a later one to go on.

    Args:
        patience: So many files in a row may fail.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._given: Counter[Host] = Counter()
        self._failed_in_row: Counter[Host] = Counter()
        self._silent: dict[Host, FetchError] = {}
        self._first: tuple[Address, FetchError] | None = None
        self._any_came = False

    def gave(self, address: Address, *, is_known: bool = False) -> None:
        """Hears that a file came from there.

        Args:
            address: Of the file.
            is_known: Whether an earlier attempt has fetched it: that says nothing of
                how the server is now.
        """
        self._any_came = True
        if is_known:
            return
        host = host_of(address)
        self._given[host] += 1
        self._failed_in_row.pop(host, None)
        self._silent.pop(host, None)

    def failed(self, address: Address, error: FetchError) -> None:
        """Hears that a file did not.

        Raises:
            OutageError: When a server that gave files has fallen silent.
        """
        host = host_of(address)
        if not error.passes:  # it answers, and that is all it gives
            self._failed_in_row.pop(host, None)
            return
        self._first = self._first or (address, error)
        self._failed_in_row[host] += 1
        if self._failed_in_row[host] < self._patience:
            return
        if self._given[host]:
            raise outage(address, error)
        self._silent[host] = error

    def find_silent(self, address: Address) -> FetchError | None:
        """Returns why nothing is asked of this server any more; None while it is."""
        return self._silent.get(host_of(address))

    def require_any(self) -> None:
        """Returns when some file came, or no server was out of reach.

        Raises:
            OutageError: When nothing came, and another time something may.
        """
        if self._first and not self._any_came:
            raise outage(*self._first)


def outage(address: Address, error: FetchError) -> OutageError:
    """Builds the end of an attempt for which `address` is out of reach."""
    return OutageError(f"{address} could not be fetched. {error.reason}")


def host_of(address: Address) -> Host:
    """Returns what stands for an address's server."""
    return address.scheme, address.host, address.port
