"""Documents that could drift from the code are compared with it."""

import re
from pathlib import Path

from cli import settings_page
from shared.job_status import TRANSITIONS

ROOT = Path(__file__).resolve().parents[2]


def test_settings_page_lists_every_setting():
    assert settings_page.PATH.read_text() == settings_page.build_page()


def test_state_diagram_is_the_table_of_moves():
    text = (ROOT / "ARCHITECTURE.md").read_text()
    drawn = {
        (old, event, new)
        for old, new, event in re.findall(r"(?m)^ +(\w+) --> (\w+): (\w+)$", text)
    }

    table = {
        (old.value, event.value, new.value)
        for (old, event), targets in TRANSITIONS.items()
        for new in targets
    }
    assert drawn == table


def test_links_between_documents_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    broken = [
        f"{page.name}: {link}"
        for page in pages
        for link in re.findall(r"\]\(([^)#]+)", page.read_text())
        if "://" not in link and not (page.parent / link).exists()
    ]

    assert broken == []
