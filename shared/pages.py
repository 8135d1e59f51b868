"""One page of a long list."""

from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import Select, func
from sqlalchemy.orm import Session

Item = TypeVar("Item")
MAX_PAGE_SIZE = 500


@dataclass(frozen=True)
class Page(Generic[Item]):
    """The items of page `page` (from 1), and how many there are in all."""

    items: list[Item]
    total: int
    page: int
    page_size: int

    @property
    def pages(self) -> int:
        """How many pages there are; one when the list is empty."""
        return max(1, -(-self.total // self.page_size))


def cut_page(items: list[Item], page: int, page_size: int) -> Page[Item]:
    """Returns one page of items that were read whole; out of range, the nearest one."""
    page = min(max(page, 1), max(1, -(-len(items) // page_size)))
    part = items[(page - 1) * page_size : page * page_size]
    return Page(part, len(items), page, page_size)


def read_page(
    session: Session, query: Select[Any], page: int, page_size: int
) -> Page[Any]:
    """Reads one page of an ordered query; a page out of range is the nearest one."""
    page_size = min(max(page_size, 1), MAX_PAGE_SIZE)
    bare = query.order_by(None).with_only_columns(
        func.count(), maintain_column_froms=True
    )
    total = session.execute(bare).scalar_one()
    page = min(max(page, 1), max(1, -(-total // page_size)))
    rows = session.scalars(query.limit(page_size).offset((page - 1) * page_size))
    return Page(list(rows.unique()), total, page, page_size)
