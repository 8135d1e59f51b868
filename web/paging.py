"""Pages of long tables: the page asked for, and the links to the others."""

from dataclasses import dataclass
from typing import Any

from flask import request, url_for

MAX_PAGE = 1_000_000


@dataclass(frozen=True)
class Pager:
    """Where in a long table a page stands.

    Args:
        page: From 1.
        page_size: Rows a page.
        total: Rows in all.
        endpoint: The view that shows the table; null means the one asked.
    """

    page: int
    page_size: int
    total: int
    endpoint: str | None = None

    @property
    def pages(self) -> int:
        """Number of pages, at least 1."""
        return max(1, -(-self.total // self.page_size))

    @property
    def first(self) -> int:
        """Number of the first row shown, from 1; 0 when there is none."""
        return min((self.page - 1) * self.page_size + 1, self.total)

    @property
    def last(self) -> int:
        """Number of the last row shown."""
        return min(self.page * self.page_size, self.total)

    def numbers(self) -> list[int | None]:
        """Page numbers to link: the ends and the neighbours, None for a gap."""
        near = range(self.page - 2, self.page + 3)
        shown = sorted({1, self.pages, *(n for n in near if 1 <= n <= self.pages)})
        numbers: list[int | None] = []
        for number in shown:
            if numbers and numbers[-1] is not None and number - numbers[-1] > 1:
                numbers.append(None)
            numbers.append(number)
        return numbers

    def link(self, page: int, parameter: str = "page") -> str:
        """Address of another page of the same view, with the same filters."""
        arguments: dict[str, Any] = {**(request.view_args or {})}
        arguments.update(request.args.to_dict(flat=False))
        arguments[parameter] = page
        return url_for(self.endpoint or request.endpoint or "", **arguments)


def asked_page(parameter: str = "page") -> int:
    """Returns the page number in the address, 1 when absent or not a number."""
    page = request.args.get(parameter, 1, type=int)
    return min(max(page, 1), MAX_PAGE)


def cut_page(
    rows: list[Any],
    page_size: int,
    *,
    parameter: str = "page",
    endpoint: str | None = None,
) -> tuple[list[Any], Pager]:
    """Returns the asked page of rows that were read whole; the last beyond the end."""
    pages = max(1, -(-len(rows) // page_size))
    page = min(asked_page(parameter), pages)
    part = rows[(page - 1) * page_size : page * page_size]
    return part, Pager(page, page_size, len(rows), endpoint)
