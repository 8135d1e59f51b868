"""How far a job is, in words."""

from types import SimpleNamespace

import pytest

from web.display import how_far


@pytest.mark.parametrize(
    ("done", "total", "unit", "eta_seconds", "words"),
    [
        (0, 0, None, None, ""),
        (2**29, 0, "bytes", None, "512.0 MiB"),
        (0, 5000, "images", None, "0 of 5,000 images"),
        (
            1200,
            5000,
            "images",
            40.0,
            "1,200 of 5,000 images · 95 images/s · about 40 s left",
        ),
        (1, 4, "images", 2.0, "1 of 4 images · 1.5 images/s · about 2 s left"),
        (1, 4, "shards", 30.0, "1 of 4 shards · about 30 s left"),
        (5000, 5000, "images", 0.0, "5,000 of 5,000 images · about 0 s left"),
        (
            2**20,
            3 * 2**20,
            "bytes",
            4.0,
            "1.0 MiB of 3.0 MiB · 512.0 KiB/s · about 4 s left",
        ),
        (3, 9, None, 3.0, "3 of 9 · 2/s · about 3 s left"),
    ],
)
def test_how_far_tells_count_rate_and_time(done, total, unit, eta_seconds, words):
    row = SimpleNamespace(done=done, total=total, unit=unit, eta_seconds=eta_seconds)

    assert how_far(row) == words
