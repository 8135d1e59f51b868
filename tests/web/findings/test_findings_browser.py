"""The data doctor's pages in a real browser: many at once, by mouse and by keyboard."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.web.browsed import WIDTHS
from tests.web.findings.decided import (
    key_of,
    list_accepted,
    list_edits,
    list_ingests,
)
from tests.web.forecast_example import COUNTS, list_pictures, make_findings

SUSPECTS = make_findings(counts={"suspect_label": 30})
PAGES = (
    "/datasets/1/findings",
    "/datasets/1/findings?kind=suspect_label",
    "/datasets/1/findings?accepted=yes",
    "/datasets/1",
)


@pytest.fixture
def examined(site, rows):
    """The dataset of the site has findings of all kinds, many doubtful labels."""
    others = make_findings(counts=COUNTS | {"suspect_label": 0, "group_leak": 1})
    rows.forecast(1, 1, [*others, *SUSPECTS])
    return 1


def test_doubtful_labels_are_relabelled_in_bulk(page, rows, examined):
    page.goto("/datasets/1/findings?kind=suspect_label")
    expect(page.get_by_label("The new label of those ticked")).to_be_hidden()
    page.get_by_label("Tick all 24 on this page").check()
    expect(page.locator("#tally")).to_have_text("24 findings ticked.")
    ticks = [page.locator(f"#tick-{key_of('suspect_label', n)}") for n in (0, 1)]
    ticks[0].uncheck()
    every = page.get_by_label("Tick all 24 on this page")
    expect(every).to_be_checked(checked=False)
    one = page.locator(f"#finding-{key_of('suspect_label', 2)}")
    one.get_by_role("combobox").select_option("intact")
    expect(one.get_by_label("It is", exact=True)).to_be_checked()
    expect(page.locator("#tally")).to_have_text(
        "23 findings ticked, 1 with a choice of its own."
    )
    expect(ticks[1]).to_be_checked()
    page.get_by_label("What becomes of those ticked").select_option("relabel")
    expect(page.get_by_label("The new label of those ticked")).to_be_visible()

    page.get_by_role("button", name="Decide").dblclick()

    page.wait_for_url("**/datasets/1")
    expect(page.get_by_text("A new version is being made: 23 pictures")).to_be_visible()
    assert len(list_ingests(rows, 1)) == 1
    (by_label := list_edits(rows, 1)).sort(key=lambda edit: edit[1])
    pictures = list_pictures(SUSPECTS)
    assert by_label == [
        ("relabel", "defective", [pictures[1], *pictures[3:24]]),
        ("relabel", "intact", [pictures[2]]),
    ]


def test_findings_are_accepted_by_keyboard_and_the_page_stays(
    page,
    rows,
    examined,
):
    page.goto("/datasets/1/findings?kind=outlier")
    first, second = (key_of("outlier", number) for number in (0, 1))
    page.locator(f"#finding-{first}").get_by_role("button", name="Accept").focus()
    page.keyboard.press("Enter")

    expect(page.locator(f"#finding-{first}")).to_have_count(0)
    expect(page.locator(f"#tick-{second}")).to_be_focused()
    expect(page.locator("#tally")).to_contain_text("The finding is accepted.")
    expect(page.locator("[data-tally='outlier']")).to_have_text("1")
    assert list_accepted(rows, 1) == {first}

    page.goto("/datasets/1/findings?accepted=yes")
    page.get_by_role("button", name="Take back", exact=True).click()
    expect(page.get_by_text("Nothing is accepted")).to_be_visible()
    assert list_accepted(rows, 1) == set()


def test_pages_are_accessible_and_fit_their_window(page, rows, examined):
    page.goto("/datasets/1/findings?kind=outlier")
    page.get_by_role("button", name="Accept", exact=True).first.click()
    expect(page.locator("#tally")).to_contain_text("accepted")
    axe, found = Axe(), []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        for path in PAGES:
            for width in WIDTHS:
                page.set_viewport_size({"width": width, "height": 900})
                page.goto(path)
                over = page.evaluate("document.body.scrollWidth - innerWidth")
                if over > 0:
                    found.append(f"{path} at {width} px is {over} px too wide")
            for violation in axe.run(page).response["violations"]:
                nodes = "; ".join(n["html"][:200] for n in violation["nodes"][:3])
                found.append(f"{path} ({scheme}): {violation['id']}: {nodes}")

    assert found == []
