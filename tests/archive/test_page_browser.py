"""The page of a cohort in a real browser: sorted, filtered, walked through by keys, printed, on a phone.

Skipped where the system has no Chromium.
"""

from __future__ import annotations

import io
import re
from base64 import b64decode
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gliosight.archive.entries import Entry
from gliosight.archive.page import write_page
from tests.support.browser import open_browser

pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.slow

SCREEN, PHONE = (1280, 800), (390, 844)
SMALL, MANY = 40, 1000
SHOWN = (
    "[...document.querySelectorAll('#rows tr:not([hidden]) .study')].map((one) => one.textContent)"
)


def make_picture(random: np.random.Generator) -> bytes:
    """About 3 kB of JPEG, as a thumbnail has."""
    noise = random.normal(110, 42, (72, 72))
    buffer = io.BytesIO()
    Image.fromarray(noise.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


def make_entries(count: int) -> list[Entry]:
    """Every verdict, some with warnings, in the order of review."""
    random, entries = np.random.default_rng(count), []
    for k in range(1, count + 1):
        name = f"sub-{k}"
        common: dict[str, Any] = {"study_id": name, "source": f"site-{k % 3}/{name}", "review": k}
        if k % 10 == 1:
            error = f"the file ends after {k} bytes ({name}/FLAIR.nii): copy it again"
            entries.append(Entry(status="error", exit_code=4, error=error, **common))
            continue
        common |= {"folder": name, "thumbnail": make_picture(random), "seconds": k / 10}
        if k % 10 == 2:
            entries.append(Entry(status="not assessed", **common))
        elif k % 10 == 3:
            entries.append(
                Entry(status="no tumour found", probability=0.01, volume_ml=0.0, **common)
            )
        else:
            volume = float(random.uniform(1, 90))
            entries.append(
                Entry(
                    status="uncertain" if k % 10 == 4 else "tumour found",
                    probability=float(random.random()),
                    findings=1 + k % 2,
                    volume_ml=volume,
                    volume_low_ml=volume * 0.7,
                    volume_high_ml=volume * 1.3,
                    warnings=("SCATTERED", "HEAD_CUT_OFF")[: k % 3],
                    worst_warning="Many foci are marked." if k % 3 else "",
                    **common,
                )
            )
    return entries


@dataclass(frozen=True)
class Cohort:
    """The browser, with the pages and what is asked of them."""

    driver: Any
    pages: dict[int, Path]

    def open(self, count: int = SMALL, size: tuple[int, int] = SCREEN, address: str = "", *,
             mobile: bool = False, dark: bool = False) -> None:  # fmt: skip
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.command("Emulation.setEmulatedMedia", media="", features=scheme)
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": mobile}
        self.command("Emulation.setDeviceMetricsOverride", **metrics)
        self.driver.get("about:blank")
        self.driver.get(self.pages[count].as_uri() + address)

    def command(self, name: str, **options: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, options)

    def ask(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(f"return {script}", *values)

    def wait(self, script: str) -> None:
        WebDriverWait(self.driver, 20, 0.02).until(lambda _: self.ask(script))

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def click(self, selector: str) -> None:
        self.driver.find_element("css selector", selector).click()

    def text(self, selector: str) -> str:
        return str(self.driver.find_element("css selector", selector).text)

    @property
    def shown(self) -> list[str]:
        return list(self.ask(SHOWN))

    @property
    def here(self) -> str:
        """The study of the row that has the focus."""
        return str(self.ask("document.activeElement.querySelector('.study')?.textContent ?? ''"))


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cohort]:
    folder, pages = tmp_path_factory.mktemp("cohorts"), {}
    for count in (SMALL, MANY):
        pages[count] = folder / str(count) / "index.html"
        pages[count].parent.mkdir()
        write_page(make_entries(count), pages[count], title=f"Cohort of {count}", unfinished=3)
        report = folder / str(count) / "sub-2" / "report.html"
        report.parent.mkdir()
        report.write_text("<title>the report</title>")
    with open_browser() as browser:
        yield Cohort(browser, pages)


def names(numbers: Any) -> list[str]:
    return [f"sub-{number}" for number in numbers]


def test_counts_charts_and_rows_are_on_the_first_screen_and_nothing_is_refused(cohort):
    cohort.open()
    for selector in (".research", "h1", ".verdicts", ".bins", "#text", "#rows tr"):
        box = cohort.ask(
            "document.querySelector(arguments[0]).getBoundingClientRect().toJSON()", selector
        )
        assert 0 <= box["top"] < box["bottom"] <= SCREEN[1], selector
        assert 0 <= box["left"] < box["right"] <= SCREEN[0], selector
    assert cohort.text("#shown") == "40 studies"
    resources = cohort.ask("performance.getEntriesByType('resource').map((one) => one.name)")
    assert not [one for one in resources if not one.startswith("data:")]
    assert cohort.driver.get_log("browser") == []


def test_pictures_are_decoded_when_their_rows_come_into_sight(cohort):
    cohort.open(MANY)
    drawn = "document.querySelectorAll('#rows img').length"
    cohort.wait(drawn)
    few = cohort.ask(drawn)
    assert few < 100
    cohort.ask("at('rows').rows[900].scrollIntoView()")
    last = "document.querySelector('#study-902 img')"
    cohort.wait(f"{last}?.complete")
    assert cohort.ask(f"{last}.naturalWidth") == 72
    assert cohort.ask(drawn) < few + 100


def test_every_column_sorts_both_ways_and_the_unknown_comes_last(cohort):
    cohort.open()
    entries = make_entries(SMALL)
    sort = {
        "rank": lambda entry: entry.review,
        "probability": lambda entry: entry.probability,
        "volume": lambda entry: entry.volume_ml,
        "warnings": lambda entry: len(entry.warnings),
        "time": lambda entry: entry.seconds,
    }
    for column, value in sort.items():
        known = [entry for entry in entries if value(entry) is not None]
        unknown = [entry.study_id for entry in entries if value(entry) is None]
        states = []
        for _ in range(2):
            cohort.click(f"th[data-column={column}] button")
            states.append(cohort.ask(f"document.querySelector('[data-column={column}]').ariaSort"))
            down = states[-1] == "descending"
            # Equals stay in the order of review.
            expected = sorted(known, key=lambda entry: -value(entry) if down else value(entry))
            assert cohort.shown == [entry.study_id for entry in expected] + unknown, column
        assert set(states) == {"ascending", "descending"}, column
    for column in ("study", "source", "verdict", "findings"):
        cohort.click(f"th[data-column={column}] button")
        assert len(cohort.ask("[...document.querySelectorAll('[aria-sort]')]")) == 1
        assert sorted(cohort.shown) == sorted(names(range(1, SMALL + 1)))
    cohort.click("th[data-column=study] button")
    assert cohort.shown == names(range(1, SMALL + 1))  # sub-2 before sub-10


def test_text_verdict_and_warnings_filter_together(cohort):
    cohort.open()
    cohort.press("/")
    assert cohort.ask("document.activeElement.id") == "text"
    cohort.press("SITE-1")
    assert cohort.shown == names(range(1, SMALL + 1, 3))
    assert cohort.text("#shown") == "14 of 40 studies"
    cohort.press(" scattered")
    both = cohort.shown
    assert both == names(k for k in range(1, SMALL + 1, 3) if k % 10 not in (1, 2, 3))
    cohort.click("button[data-verdict=uncertain]")
    assert cohort.shown == names([4, 34])
    assert cohort.ask("at('verdict').value") == "uncertain"
    assert cohort.text("#shown") == "2 of 40 studies"
    cohort.click("button[data-verdict=uncertain]")  # pressed again: all verdicts
    assert cohort.shown == both
    cohort.click("#clear")
    assert len(cohort.shown) == SMALL
    cohort.click(".toggle")
    assert cohort.shown == names(
        k for k in range(1, SMALL + 1) if k % 10 not in (1, 2, 3) and k % 3
    )
    cohort.press("/", "no such study")
    assert cohort.shown == []
    assert cohort.text("#none") == "No study matches this filter."
    cohort.press(Keys.ESCAPE)
    assert len(cohort.shown) == SMALL


def test_the_address_keeps_sort_and_filter(cohort):
    cohort.open()
    cohort.click("th[data-column=volume] button")
    cohort.click("button[data-verdict=found]")
    cohort.press("/", "site-2 sub")
    cohort.wait("location.hash.includes('text')")
    address, shown = cohort.ask("location.hash"), cohort.shown
    assert address == "#sort=-volume&verdict=found&text=site-2+sub"
    cohort.open(address=address)
    assert cohort.shown == shown
    assert cohort.ask("at('text').value") == "site-2 sub"
    assert cohort.ask("document.querySelector('[aria-pressed=true]').dataset.verdict") == "found"
    # What an address should not say is left out.
    cohort.open(address="#sort=constructor&verdict=%3Cb%3E&warned=2&text=")
    assert cohort.shown == names(range(1, SMALL + 1))
    assert cohort.driver.get_log("browser") == []


def test_keys_walk_through_the_rows_and_open_a_report(cohort):
    cohort.open()
    cohort.press("j")
    assert cohort.here == "sub-1"
    cohort.press(Keys.ARROW_DOWN, "j", "k")
    assert cohort.here == "sub-2"
    cohort.press(Keys.ARROW_UP, "k", "k")
    assert cohort.here == "sub-1"
    cohort.press(Keys.ENTER)  # it failed: there is no report
    assert cohort.here == "sub-1"
    # Rows that do not pass the filter are not visited, and the row stays below the bar and the head.
    cohort.press("/", "site-1", Keys.ARROW_DOWN, "j", "j")
    assert cohort.here == "sub-7"
    for _ in range(8):
        cohort.press("j")
    row = cohort.ask("document.activeElement.getBoundingClientRect().toJSON()")
    assert row["bottom"] <= SCREEN[1]
    for _ in range(8):
        cohort.press("k")
    row = cohort.ask("document.activeElement.getBoundingClientRect().toJSON()")
    head = cohort.ask("document.querySelector('thead th').getBoundingClientRect().bottom")
    assert row["top"] >= head - 1
    # The worst warning is read out and seen on the row with the focus.
    assert cohort.here == "sub-7"
    assert cohort.text("tr.here .message") == "Many foci are marked."
    assert not cohort.ask("document.querySelector('#study-8 .message').checkVisibility()")
    cohort.press("/", Keys.ESCAPE, Keys.ESCAPE, "k")
    cohort.click("th[data-column=rank] button")
    cohort.click("th[data-column=rank] button")
    cohort.ask("jump('#study-2')")
    cohort.press(Keys.ENTER)
    WebDriverWait(cohort.driver, 20).until(lambda driver: driver.title == "the report")
    assert cohort.ask("location.pathname").endswith("/sub-2/report.html")


def test_a_question_mark_shows_the_keys(cohort):
    cohort.open()
    cohort.press("?")
    assert cohort.ask("at('keys').open")
    assert "next and previous study" in cohort.text("#keys")
    cohort.press("j")  # means nothing now
    assert cohort.ask("document.querySelector('tr.here')") is None
    cohort.press(Keys.ESCAPE)
    assert not cohort.ask("at('keys').open")


def test_a_failure_leads_to_its_row_even_when_that_is_filtered_out(cohort):
    cohort.open()
    cohort.click("button[data-verdict=found]")
    cohort.click(".failures summary")
    assert cohort.text(".failures .why") == "the file ends after … bytes: copy it again"
    cohort.click(".failures a[href='#study-11']")
    assert cohort.here == "sub-11"
    assert len(cohort.shown) == SMALL
    cohort.open(address="#study-31")
    assert cohort.here == "sub-31"


def test_a_thousand_rows_answer_at_once(cohort):
    """Only rows in sight are laid out, and the page's thread works for less than a second.

    Its own time is counted, which other programs on the machine do not lengthen: at most 0.2 s for each.
    """

    def seconds() -> float:
        metrics = cohort.command("Performance.getMetrics")["metrics"]
        return float(next(one["value"] for one in metrics if one["name"] == "TaskDuration"))

    cohort.command("Performance.enable", timeDomain="threadTicks")
    start = seconds()
    cohort.open(MANY)
    cohort.wait("performance.getEntriesByName('first-contentful-paint').length")
    assert seconds() - start < 2
    for action in ("chooseSort('volume')", "chooseSort('source')", "change({text: 'sub-7'})",
                   "chooseVerdict('found')", "clear()"):  # fmt: skip
        start = seconds()
        cohort.driver.execute_async_script(
            f"const done = arguments[0]; {action}; requestAnimationFrame(() => setTimeout(done));"
        )
        assert seconds() - start < 1, action
    in_sight = "row.checkVisibility({contentVisibilityAuto: true})"
    assert (
        cohort.ask(f"[...at('rows').rows].filter((row) => row.cells[2].{in_sight[4:]}).length") < 60
    )
    cohort.command("Performance.disable")


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_shows_all_without_scrolling_sideways(cohort, dark):
    cohort.open(size=PHONE, mobile=True, dark=dark)
    assert cohort.ask("document.documentElement.scrollWidth") == PHONE[0]
    for selector in (
        "#study-5 .study",
        "#study-5 .answer",
        "#study-5 .volume",
        "#study-1 .failure",
    ):
        box = cohort.ask(
            "document.querySelector(arguments[0]).getBoundingClientRect().toJSON()", selector
        )
        assert 0 < box["left"] < box["right"] <= PHONE[0], selector
    assert cohort.text("#study-5 .message") == "Many foci are marked."
    cohort.click("th[data-column=study] button")
    assert cohort.shown == names(range(1, SMALL + 1))


def test_dark_mode_is_dark_and_keeps_its_contrast(cohort):
    cohort.open(dark=True)

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    style = "getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    paper = luminance(cohort.ask(style, ".summary", "backgroundColor"))
    assert paper < 0.03
    for selector in ("h1", ".sub", ".source", ".codes", ".failure", ".found .answer span",
                     ".uncertain .answer span", ".failed .answer span", ".ticks", "#shown"):  # fmt: skip
        ink = luminance(cohort.ask(style, selector, "color"))
        assert (ink + 0.05) / (paper + 0.05) > 4.5, selector


def test_paper_has_all_rows_with_pictures_and_no_controls(cohort):
    cohort.open()
    cohort.click("button[data-verdict=uncertain]")
    printed = cohort.command("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
    assert len(re.findall(rb"/Type\s*/Page\b", b64decode(printed["data"]))) <= 5
    # Every thumbnail is there now.
    assert cohort.ask("document.querySelectorAll('#rows noscript').length") == 0
    assert cohort.ask("document.querySelectorAll('#rows img').length") == SMALL - 4
    cohort.command("Emulation.setEmulatedMedia", media="print")
    assert cohort.ask("[...at('rows').rows].every((row) => row.checkVisibility())")
    for selector in (".tools", "thead button"):
        assert not cohort.ask("document.querySelector(arguments[0]).checkVisibility()", selector)
    assert cohort.ask("document.querySelector('.research').checkVisibility()")


def test_without_javascript_it_is_a_plain_table_with_pictures(cohort):
    cohort.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        cohort.open()
        find = cohort.driver.find_elements
        rows = find("css selector", "#rows tr")
        assert [row.find_element("css selector", ".study").text for row in rows] == names(
            range(1, SMALL + 1)
        )
        pictures = find("css selector", "#rows noscript img")
        assert len(pictures) == SMALL - 4
        assert pictures[0].is_displayed()
        assert not find("css selector", ".tools")[0].is_displayed()
        assert not any(one.is_enabled() for one in find("css selector", "thead button"))
    finally:
        cohort.command("Emulation.setScriptExecutionDisabled", value=False)


def test_every_control_has_a_name(cohort):
    cohort.open()
    cohort.press("j")
    nameless = []
    for node in cohort.command("Accessibility.getFullAXTree")["nodes"]:
        properties = {one["name"]: one["value"].get("value") for one in node.get("properties", [])}
        role = node.get("role", {}).get("value")
        if properties.get("focusable") and role not in ("RootWebArea", "generic"):
            nameless += [] if node.get("name", {}).get("value") else [role]
    assert nameless == []
