"""Reads `addresses` of SPEC.json: what may be fetched, and how patiently."""

import ipaddress
from dataclasses import dataclass
from typing import Any

from shared.errors import UserError
from shared.public_addresses import Network
from shared.source_addresses import Address, parse_prefix


@dataclass(frozen=True, slots=True)
class AddressRules:
    """What this installation fetches.

    Args:
        allowed: The allow-list; empty means nothing.
        networks: What may be reached beside public addresses.
        s3_endpoint: The server behind `s3://`; None means Amazon's.
        parallel: Files fetched at once.
        tries: Of one file; a try that got further and can go on there is not counted.
        backoff_seconds: Wait before the second try; doubles, up to 30 seconds.
        connect_seconds: Time to connect.
        stall_seconds: Time in which at least a kilobyte must come.
        busy_seconds: Time for which a server may be busy and give nothing; after that
            its files fail without being asked for as often. Well below the time in
            which an attempt must get further.
        outage: Files in a row that one server did not give, after which it is left
            alone: a server that is down is not asked a million times.
    """

    allowed: tuple[Address, ...] = ()
    networks: tuple[Network, ...] = ()
    s3_endpoint: str | None = None
    parallel: int = 8
    tries: int = 5
    backoff_seconds: float = 0.5
    connect_seconds: float = 10
    stall_seconds: float = 60
    busy_seconds: float = 240
    outage: int = 24


def parse_rules(wishes: dict[str, Any]) -> AddressRules:
    """Makes rules from SPEC.json's `addresses`.

    Raises:
        UserError: Naming what cannot be read.
    """
    plain = {key: value for key, value in wishes.items() if key not in _LISTS}
    try:
        return AddressRules(
            allowed=tuple(parse_prefix(entry) for entry in wishes.get("allowed", [])),
            networks=tuple(map(ipaddress.ip_network, wishes.get("networks", []))),
            **plain,
        )
    except (TypeError, ValueError) as error:
        raise UserError(
            f"`addresses` cannot be read: {error}.", field="addresses"
        ) from error


_LISTS = ("allowed", "networks")
