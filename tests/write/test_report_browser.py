"""The report in a real browser: what is seen on the first screen, and what the viewer's tools do.

Chromium with its driver opens reports of a head whose lesion is known; what is drawn is read back from the
canvases, pixel by pixel. Skipped where the system has no Chromium.
"""

from __future__ import annotations

import io
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from gliosight.analysis import RESEARCH_USE, Analysis, Status
from gliosight.flags import flag
from gliosight.phantom import PhantomSpec, make_phantom
from gliosight.study import MrSequence
from gliosight.write.report import write_report
from tests.support.browser import open_browser

from .builders import LEFT_LESION, make_analysis, make_finding, make_geometry, paint

pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
from selenium.common.exceptions import JavascriptException
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

pytestmark = pytest.mark.slow

SCREEN = (1280, 800)
PHONE = (390, 844)
# A4 without the margins of the page, in CSS pixels.
PRINTED = (703, 1039)
CYAN = (0, 213, 255)  # of the first finding
SHAPE = (40, 96, 80)
# No side of a voxel is like another one.
SPACING = {"spacing": (2.0, 2.4), "slice_spacing": 3.0}


def make_thin() -> Analysis:
    """Thin slices, their rows and columns the other way round than they are shown."""
    geometry = make_geometry(SHAPE, "axial flipped", **SPACING)
    values, probability = paint(SHAPE, geometry)
    # Inside the outline all is bright, outside nothing is: a picture shows where its outline belongs.
    inside = probability > 0.5
    flat = {name: np.where(value > 60, 300.0, 0.0) for name, value in values.items()}
    flat = {name: np.where(inside, 900.0, value) for name, value in flat.items()}
    flat[MrSequence.T1] = np.where(inside, 80.0, flat[MrSequence.T1])
    return make_analysis(SHAPE, geometry, values=flat, probability=probability)


def make_without_geometry() -> Analysis:
    without = (MrSequence.FLAIR, MrSequence.T1)
    return make_analysis((12, 60, 48), None, sequences=without)


REPORTS: dict[str, Callable[[], Analysis]] = {
    "found": make_thin,
    "uncertain": lambda: make_analysis(
        status=Status.UNCERTAIN,
        flags=(
            flag("SYMMETRIC", "What is marked is mirror-symmetric."),
            flag("T1_MISSING", "None."),
        ),
    ),
    "not found": lambda: make_analysis(lesion=False),
    "not assessed": lambda: make_analysis(lesion=False, status=Status.NOT_ASSESSED),
    "without geometry": make_without_geometry,
}


@dataclass(frozen=True)
class Viewer:
    """The browser, with the pages and what is asked of them."""

    driver: Any
    pages: dict[str, Path]
    downloads: Path

    def open(self, name: str, size: tuple[int, int] = SCREEN, *, mobile: bool = False) -> None:
        self.command("Emulation.setEmulatedMedia", media="", features=[])
        metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": mobile}
        self.command("Emulation.setDeviceMetricsOverride", **metrics)
        self.driver.get("about:blank")
        self.driver.get(self.pages[name].as_uri())
        self.wait("document.getElementById('pane-0').dataset.drawn")

    def command(self, name: str, **options: Any) -> Any:
        return self.driver.execute_cdp_cmd(name, options)

    def ask(self, script: str, *values: Any) -> Any:
        return self.driver.execute_script(f"return {script}", *values)

    def wait(self, script: str) -> Any:
        return WebDriverWait(self.driver, 20, 0.02).until(lambda _: self.ask(script))

    def settle(self) -> None:
        """Wait until what was asked for is drawn."""
        frames = (
            "const done = arguments[0]; requestAnimationFrame(() => requestAnimationFrame(done));"
        )
        self.driver.execute_async_script(frames)
        self.wait(
            "shownPanes().every((pane) => pane.box.dataset.drawn === "
            "`${pane.sequence} ${pane.plane.plane} ${indexOf(pane.plane)}`)"
        )
        self.driver.execute_async_script(frames)

    def find(self, selector: str) -> Any:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def press(self, *keys: str, pane: int | None = 0) -> None:
        if pane is not None:
            self.ask(f"panes[{pane}].box.focus()")
        ActionChains(self.driver).send_keys(*keys).perform()
        self.settle()

    def click(self, selector: str) -> None:
        self.find(selector).click()
        self.settle()

    def choose(self, name: str, value: str) -> None:
        self.click(f'label:has(input[name="{name}"][value="{value}"])')

    def drag(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        *,
        pane: int = 0,
        button: str = "left",
    ) -> None:
        """From one place of a pane to another one, in its CSS pixels."""
        box = self.ask(f"panes[{pane}].box.getBoundingClientRect().toJSON()")
        held = {"left": 1, "right": 2, "middle": 4}[button]
        for step, kind in enumerate(("mousePressed", "mouseMoved", "mouseMoved", "mouseReleased")):
            part = min(step / 2, 1)
            place = [a + (b - a) * part for a, b in zip(start, end, strict=True)]
            self.command(
                "Input.dispatchMouseEvent",
                type=kind,
                x=box["left"] + place[0],
                y=box["top"] + place[1],
                button=button,
                buttons=0 if kind == "mouseReleased" else held,
                clickCount=1,
            )
        self.settle()

    def wheel(
        self, at: tuple[float, float], turn: float, *, pane: int = 0, ctrl: bool = False
    ) -> None:
        box = self.ask(f"panes[{pane}].box.getBoundingClientRect().toJSON()")
        place = {"x": box["left"] + at[0], "y": box["top"] + at[1]}
        # A page that has just scrolled goes on scrolling.
        self.wait("performance.now() - scrolledAt > 250")
        self.command(
            "Input.dispatchMouseEvent", type="mouseWheel", deltaX=0, deltaY=turn,
            modifiers=2 if ctrl else 0, **place,
        )  # fmt: skip
        self.settle()

    def pixels(self, pane: int = 0) -> NDArray[np.int64]:
        """(rows, columns, 3): what is drawn on a pane."""
        url = self.ask(f"panes[{pane}].canvas.toDataURL()")
        picture = Image.open(io.BytesIO(b64decode(url.split(",")[1]))).convert("RGB")
        return np.asarray(picture).astype(int)

    def place(self) -> dict[str, int]:
        return dict(self.ask("state.place"))

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser")]


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Viewer]:
    folder = tmp_path_factory.mktemp("reports")
    pages = {}
    for name, make in REPORTS.items():
        pages[name] = folder / name / "report.html"
        pages[name].parent.mkdir()
        write_report(make(), pages[name], files={"result.json": "everything, for machines"})
    downloads = folder / "downloads"
    downloads.mkdir()
    behaviour = {"behavior": "allow", "downloadPath": str(downloads)}
    with open_browser() as browser:
        browser.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
        yield Viewer(browser, pages, downloads)


def near(pixels: NDArray[np.int64], colour: tuple[int, int, int]) -> NDArray[np.bool_]:
    return np.asarray((np.abs(pixels - colour) < 40).all(axis=-1))


def box_of(marks: NDArray[np.bool_]) -> list[int]:
    """Left, top, right, bottom."""
    rows, columns = np.nonzero(marks)
    return [int(columns.min()), int(rows.min()), int(columns.max()), int(rows.max())]


def outline_box(viewer: Viewer, pane: int = 0) -> list[int]:
    """The box round the outline: the finding's number beside it has the same colour, and is left out."""
    return box_of(large(near(viewer.pixels(pane), CYAN), 45))


def large(marks: NDArray[np.bool_], pixels: int) -> NDArray[np.bool_]:
    """What hangs together over so many pixels: no letters, but the parts that a crosshair leaves."""
    labels, _ = ndimage.label(marks, np.ones((3, 3)))
    return np.asarray((np.bincount(labels.ravel()) > pixels)[labels] & marks)


def lesion_box(viewer: Viewer, pane: int = 0) -> list[int]:
    """The box round what is bright without its outline."""
    viewer.press("o", "i")
    pixels = viewer.pixels(pane)
    viewer.press("o", "i")
    bright = (pixels.min(axis=-1) > 225) & (np.ptp(pixels, axis=-1) < 12)
    return box_of(large(bright, 150))


# What is seen first


@pytest.mark.parametrize("name", REPORTS)
def test_verdict_picture_and_findings_are_on_the_first_screen(viewer: Viewer, name: str) -> None:
    viewer.open(name)
    boxes = {
        selector: viewer.ask(
            "document.querySelector(arguments[0]).getBoundingClientRect().toJSON()", selector
        )
        for selector in (".research", "h1", ".numbers", "#pane-0", "#findings-title", "#slider")
    }
    for selector, box in boxes.items():
        assert 0 <= box["top"] < box["bottom"] <= SCREEN[1], selector
        assert 0 <= box["left"] < box["right"] <= SCREEN[0], selector
    if name in ("found", "uncertain", "without geometry"):
        row = viewer.ask("document.querySelector('tbody tr').getBoundingClientRect().bottom")
        assert row <= SCREEN[1]
    picture = boxes["#pane-0"]
    assert picture["width"] > 600
    assert picture["height"] > 400
    # Side by side.
    assert picture["left"] > boxes["h1"]["right"]
    assert picture["top"] < boxes["#findings-title"]["top"] < picture["bottom"] + 120
    assert viewer.pixels().mean() > 15
    assert viewer.find(".research").text.strip() == RESEARCH_USE
    # Settings are folded, and nothing follows them but the footer.
    assert not viewer.ask("document.querySelector('.provenance details').open")
    assert viewer.ask("document.querySelector('main').lastElementChild.className") == "provenance"


@pytest.mark.parametrize("name", REPORTS)
def test_nothing_is_requested_and_nothing_is_refused(viewer: Viewer, name: str) -> None:
    viewer.open(name)
    for _ in range(3):
        viewer.press("l")
    resources = viewer.ask("performance.getEntriesByType('resource').map((one) => one.name)")
    assert not [one for one in resources if not one.startswith("data:")]
    assert viewer.errors() == []


# Outline and sides


def test_the_outline_lies_on_the_lesion_and_on_the_side_of_its_letter(viewer: Viewer) -> None:
    viewer.open("found")
    outline, lesion = outline_box(viewer), lesion_box(viewer)
    assert np.abs(np.array(outline) - lesion).max() <= 4
    width = viewer.ask("panes[0].canvas.width")
    assert (outline[0] + outline[2]) / 2 > width * 0.55  # the patient's left is on the right
    assert viewer.ask("[own.left, own.right, own.top]") == ["R", "L", "A"]
    # Millimetres have the same length across and down.
    mask = make_thin().mask[viewer.place()["k"]]
    rows, columns = (np.ptp(places) + 1 for places in np.nonzero(mask))
    across, down = outline[2] - outline[0], outline[3] - outline[1]
    assert across / down == pytest.approx(columns * 2.4 / (rows * 2.0), rel=0.06)
    viewer.press("o")
    assert near(viewer.pixels(), CYAN).sum() == 0


def test_all_three_planes_show_the_lesion_where_it_is(viewer: Viewer) -> None:
    viewer.open("found")
    viewer.choose("layout", "planes")
    names = viewer.ask("shownPanes().map((pane) => pane.plane.plane)")
    assert names == ["axial", "coronal", "sagittal"]
    letters = viewer.ask("planes.map((one) => [one.top, one.bottom, one.left, one.right])")
    assert letters == [["A", "P", "R", "L"], ["S", "I", "R", "L"], ["S", "I", "A", "P"]]
    # Halves of the pane in which the lesion's middle lies: left, front and above of the head's middle.
    assert (LEFT_LESION * [-1, 1, 1] > 0).all()
    for pane, (right, top) in enumerate(((True, True), (True, True), (False, True))):
        outline, lesion = outline_box(viewer, pane), lesion_box(viewer, pane)
        assert np.abs(np.array(outline) - lesion).max() <= 5, names[pane]
        u, v = (outline[0] + outline[2]) / 2, (outline[1] + outline[3]) / 2
        width, height = viewer.ask(f"[panes[{pane}].canvas.width, panes[{pane}].canvas.height]")
        assert (u > width / 2) == right, names[pane]
        assert (v < height / 2) == top, names[pane]


def test_the_crosshair_links_the_planes(viewer: Viewer) -> None:
    viewer.open("found")
    viewer.choose("layout", "planes")
    # It begins in the lesion: on each plane inside of its outline.
    before = viewer.place()
    # A click on the coronal plane moves the axial and the sagittal one.
    target = viewer.ask("fit(planes[1], panes[1].canvas.clientWidth, panes[1].canvas.clientHeight)")
    wanted = {"x": 20, "k": 8}
    u, v = viewer.ask("onPlane(planes[1], middleOf({x: 20, y: 0, k: 8}))")
    spot = (target["left"] + u * target["scale"], target["top"] + v * target["scale"])
    viewer.drag(spot, spot, pane=1)
    assert viewer.place() == {**before, **wanted}
    drawn = viewer.ask("panes.map((pane) => pane.box.dataset.drawn)")
    assert drawn == ["FLAIR axial 8", f"FLAIR coronal {before['y']}", "FLAIR sagittal 20"]
    assert viewer.find("#now").text == "9"  # counted from 1
    # Its lines cross there on every plane: light on the pane's own grey.
    for pane in range(3):
        u, v = viewer.ask(f"onPlane(planes[{pane}], middleOf(state.place))")
        shown = viewer.ask(
            f"fit(planes[{pane}], panes[{pane}].canvas.width, panes[{pane}].canvas.height)"
        )
        x, y = (
            round(shown[side] + place * shown["scale"]) for side, place in (("left", u), ("top", v))
        )
        pixels = viewer.pixels(pane).min(axis=-1)
        assert max(np.median(pixels[30:-30, x + d]) for d in (-1, 0, 1)) > 100
        assert max(np.median(pixels[y + d, 30:-30]) for d in (-1, 0, 1)) > 100
    # The wheel over a plane goes through that plane, arrow keys as well.
    viewer.wheel((60, 60), 120, pane=2)
    assert viewer.place()["x"] == 21
    viewer.press(Keys.ARROW_UP, pane=1)
    assert viewer.place()["y"] == before["y"] - 1


def test_thick_slices_and_slices_without_geometry_have_no_planes(viewer: Viewer) -> None:
    for name in ("uncertain", "without geometry"):
        viewer.open(name)
        layouts = viewer.ask(
            "[...document.querySelectorAll('input[name=layout]')].map((one) => one.value)"
        )
        assert layouts == ["one", "sequences"]


# Tools


def test_keys_go_through_slices_sequences_and_layouts(viewer: Viewer) -> None:
    viewer.open("found")
    start = viewer.place()["k"]
    viewer.press(Keys.ARROW_RIGHT, Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert viewer.place()["k"] == start + 2
    viewer.press(Keys.HOME)
    assert viewer.find(".where strong").text == "Slice 1"
    viewer.press(Keys.PAGE_DOWN)
    assert viewer.place()["k"] == 5
    viewer.press(Keys.END)
    assert viewer.find(".where strong").text == "Slice 40"
    assert viewer.find("#slider").get_attribute("value") == "40"
    viewer.wait("location.hash === '#slice=40'")
    for key, sequence in (("2", "T1"), ("3", "T1C"), ("1", "FLAIR")):
        viewer.press(key)
        assert viewer.ask("panes[0].box.dataset.drawn") == f"{sequence} axial 39"
        assert viewer.find(f'input[value="{sequence}"]').is_selected()
    viewer.press("l")
    drawn = viewer.ask("panes.map((pane) => pane.box.dataset.drawn)")
    assert drawn == ["FLAIR axial 39", "T1 axial 39", "T1C axial 39"]
    viewer.wheel((80, 200), -120, pane=1)  # scrolled together
    drawn = viewer.ask("panes.map((pane) => pane.box.dataset.drawn)")
    assert drawn == ["FLAIR axial 38", "T1 axial 38", "T1C axial 38"]
    viewer.press("l")
    assert viewer.ask("document.getElementById('stage').dataset.layout") == "planes"
    viewer.press("l")
    assert viewer.ask("shownPanes().length") == 1


def test_brightness_and_contrast_by_drag_and_by_keys(viewer: Viewer) -> None:
    viewer.open("found")
    viewer.press("o", "i")
    first = viewer.pixels()
    tissue = (first.min(axis=-1) > 60) & (first.min(axis=-1) < 200)
    assert tissue.mean() > 0.1
    assert np.median(first[tissue]) > 95  # tissue is no dark grey

    def brightness() -> float:
        return float(np.median(viewer.pixels()[tissue]))

    viewer.press("b")
    viewer.drag((200, 300), (200, 220))
    assert brightness() > np.median(first[tissue]) + 20
    viewer.click("#reset")
    assert np.array_equal(viewer.pixels(), first)
    viewer.drag((200, 300), (200, 380), button="right")
    assert brightness() < np.median(first[tissue]) - 20
    viewer.press("r")
    assert np.array_equal(viewer.pixels(), first)
    viewer.press("s")
    grey = viewer.find("#grey").text
    ActionChains(viewer.driver).key_down(Keys.SHIFT).send_keys(Keys.ARROW_UP * 4).key_up(
        Keys.SHIFT
    ).perform()
    viewer.settle()
    assert brightness() > np.median(first[tissue]) + 10
    assert viewer.find("#grey").text != grey
    # Contrast: less of it, and tissue and air are nearer to each other.
    viewer.press("r")
    shift = ActionChains(viewer.driver).key_down(Keys.SHIFT).send_keys(Keys.ARROW_LEFT * 6)
    shift.key_up(Keys.SHIFT).perform()
    viewer.settle()
    seen = viewer.pixels()
    air, lesion = first.max(axis=-1) == 0, first.min(axis=-1) == 255
    air_of_picture = np.percentile(seen[air], 95)  # beside the picture it is as black as ever
    assert np.median(seen[tissue]) - air_of_picture < 0.8 * np.median(first[tissue])
    # The lesion was whiter than white, and is no longer.
    assert lesion.sum() > 1000
    assert 200 < np.median(seen[lesion]) < 254


def test_enlarging_keeps_what_is_below_the_pointer(viewer: Viewer) -> None:
    viewer.open("found")
    before = outline_box(viewer)
    spot = ((before[0] + before[2]) / 2, (before[1] + before[3]) / 2)
    viewer.wheel(spot, -120, ctrl=True)
    viewer.wheel(spot, -120, ctrl=True)
    after = outline_box(viewer)
    zoom = viewer.ask("state.zoom")
    assert zoom > 1.3
    assert (after[2] - after[0]) / (before[2] - before[0]) == pytest.approx(zoom, rel=0.03)
    assert [(after[0] + after[2]) / 2, (after[1] + after[3]) / 2] == pytest.approx(spot, abs=4)
    assert viewer.place()["k"] == make_thin().findings[0].largest_slice  # no slice was left
    # Moving: by the tool, and by the middle button.
    viewer.press("g")
    viewer.drag((300, 200), (260, 230))
    moved = outline_box(viewer)
    assert np.subtract(moved, after)[:2] == pytest.approx([-40, 30], abs=3)
    viewer.drag((300, 200), (340, 170), button="middle")
    assert outline_box(viewer) == pytest.approx(after, abs=3)
    viewer.press("r")
    assert outline_box(viewer) == before
    viewer.press("s", "+", "+")
    assert viewer.ask("state.zoom") == pytest.approx(1.25**2)
    viewer.click("#smaller")
    assert viewer.ask("state.zoom") == pytest.approx(1.25)
    viewer.press("r")
    ActionChains(viewer.driver).double_click(viewer.find("#pane-0")).perform()
    viewer.settle()
    assert viewer.ask("state.zoom") == 2.5
    ActionChains(viewer.driver).double_click(viewer.find("#pane-0")).perform()
    viewer.settle()
    assert outline_box(viewer) == before


def test_two_fingers_enlarge_and_one_goes_through_the_slices(viewer: Viewer) -> None:
    viewer.open("found", PHONE, mobile=True)
    viewer.command("Emulation.setTouchEmulationEnabled", enabled=True, maxTouchPoints=2)
    viewer.find("#pane-0")
    viewer.ask("at('viewer').scrollIntoView()")
    box = viewer.ask("panes[0].box.getBoundingClientRect().toJSON()")
    x, y = box["left"] + box["width"] / 2, box["top"] + box["height"] / 2

    def touch(kind: str, *places: tuple[float, float]) -> None:
        points = [{"x": u, "y": v, "id": k} for k, (u, v) in enumerate(places)]
        viewer.command("Input.dispatchTouchEvent", type=kind, touchPoints=points)

    touch("touchStart", (x - 30, y))
    touch("touchStart", (x - 30, y), (x + 30, y))
    for away in (40, 50, 60):
        touch("touchMove", (x - away, y), (x + away, y))
    touch("touchEnd")
    viewer.settle()
    assert viewer.ask("state.zoom") == pytest.approx(2, rel=0.05)
    viewer.press("r")
    start = viewer.place()["k"]
    touch("touchStart", (x, y))
    for step in (20, 40, 60):
        touch("touchMove", (x + step, y))
    touch("touchEnd")
    viewer.settle()
    assert viewer.place()["k"] > start
    viewer.command("Emulation.setTouchEmulationEnabled", enabled=False)


def test_distances_are_in_millimetres_or_in_pixels(viewer: Viewer) -> None:
    viewer.open("found")
    outline = outline_box(viewer)
    mask = make_thin().mask[viewer.place()["k"]]
    width = float(np.ptp(np.nonzero(mask)[1]) + 1) * 2.4
    viewer.press("m")
    viewer.press(Keys.ESCAPE)
    middle = (outline[1] + outline[3]) / 2
    viewer.drag((outline[0] + 1, middle), (outline[2] - 1, middle))
    (line,) = viewer.ask("[...state.lines.values()]")
    words = viewer.ask("lengthWords(arguments[0])", line)
    assert words.endswith(" mm")
    assert float(words.split()[0]) == pytest.approx(width, rel=0.03)
    assert "Distance" in viewer.ask("at('said').textContent")
    # On another slice it is not shown, and there again it is.
    shown = viewer.pixels()
    viewer.press(Keys.PAGE_DOWN, Keys.PAGE_UP)
    assert np.array_equal(viewer.pixels(), shown)
    viewer.press(Keys.ESCAPE)
    assert viewer.ask("state.lines.size") == 0
    assert not np.array_equal(viewer.pixels(), shown)
    # By keys alone.
    viewer.press("s")
    viewer.press("m", Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    (longer,) = viewer.ask("[...state.lines.values()]")
    assert longer[1][0] - longer[0][0] == pytest.approx(80 * 2.4 / 4 + 2 * 2.4)
    viewer.open("without geometry")
    viewer.press("m")
    viewer.drag((200, 200), (300, 200))
    (line,) = viewer.ask("[...state.lines.values()]")
    assert re.fullmatch(r"\d+ pixels", viewer.ask("lengthWords(arguments[0])", line))


def test_a_slice_is_saved_as_a_picture_that_stands_for_itself(viewer: Viewer) -> None:
    viewer.open("found")
    viewer.press("2")
    viewer.click("#save")
    slice_number = viewer.place()["k"] + 1
    path = viewer.downloads / f"phantom-0001_T1_slice-{slice_number}.png"
    WebDriverWait(viewer.driver, 20, 0.05).until(lambda _: path.is_file() and path.stat().st_size)
    picture = np.asarray(Image.open(path).convert("RGB")).astype(int)
    assert picture.shape[1] == 1200
    marks = near(picture, CYAN)
    assert np.nonzero(marks)[1].mean() > 650  # the patient's left
    footer = picture[-60:].max(axis=-1) > 150
    assert footer.any(axis=0).sum() > 300  # what it is, and that it is for research only


def test_a_finding_is_copied_as_text(viewer: Viewer) -> None:
    viewer.open("found")
    granted = {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    viewer.command("Browser.grantPermissions", **granted)
    viewer.click("button.copy")
    viewer.wait("at('copied').textContent")
    viewer.ask("document.body.insertAdjacentHTML('beforeend', '<textarea id=pasted></textarea>')")
    viewer.ask("at('pasted').focus()")
    ActionChains(viewer.driver).key_down(Keys.CONTROL).send_keys("v").key_up(Keys.CONTROL).perform()
    pasted = viewer.ask("at('pasted').value")
    assert pasted.startswith("Finding 1 of 1: left; volume ")
    assert RESEARCH_USE in pasted


def test_a_findings_row_leads_to_its_largest_slice(viewer: Viewer) -> None:
    viewer.open("found")
    viewer.press(Keys.HOME)
    viewer.click("a.jump")
    assert viewer.place()["k"] == make_thin().findings[0].largest_slice
    assert viewer.ask("document.activeElement.id") == "pane-0"
    viewer.press(Keys.HOME)
    viewer.ask("location.hash = '#slice=12'")
    viewer.wait("state.place.k === 11")


# Other screens, paper, and other ways to read


@pytest.mark.parametrize("name", REPORTS)
def test_a_phone_shows_all_without_scrolling_sideways(viewer: Viewer, name: str) -> None:
    viewer.open(name, PHONE, mobile=True)
    layouts = viewer.ask(
        "[...document.querySelectorAll('input[name=layout]')].map((one) => one.value)"
    )
    for layout in layouts:
        viewer.ask("chooseLayout(arguments[0])", layout)
        viewer.settle()
        assert viewer.ask("document.documentElement.scrollWidth") == PHONE[0], layout
        assert viewer.ask("panes[0].box.clientWidth") > 0.45 * PHONE[0]


@pytest.mark.parametrize("name", REPORTS)
def test_on_paper_there_are_two_pages_and_the_first_is_enough(viewer: Viewer, name: str) -> None:
    viewer.open(name)
    printed = viewer.command("Page.printToPDF", preferCSSPageSize=True, printBackground=True)
    pages = re.findall(rb"/Type\s*/Page\b", b64decode(printed["data"]))
    assert len(pages) <= 2
    metrics = {"width": PRINTED[0], "height": PRINTED[1], "deviceScaleFactor": 1, "mobile": False}
    viewer.command("Emulation.setDeviceMetricsOverride", **metrics)
    viewer.command("Emulation.setEmulatedMedia", media="print")
    bottom = {
        selector: viewer.ask(
            "document.querySelector(arguments[0]).getBoundingClientRect().bottom", selector
        )
        for selector in (".research", "h1", ".numbers", ".findings", ".gallery figure:last-child")
    }
    assert max(bottom.values()) <= PRINTED[1], bottom
    assert min(bottom.values()) > 0
    assert viewer.ask("getComputedStyle(document.querySelector('.desk')).display") == "none"


def test_without_javascript_it_is_a_static_sheet(viewer: Viewer) -> None:
    viewer.command("Emulation.setScriptExecutionDisabled", value=True)
    try:
        viewer.driver.get("about:blank")
        viewer.driver.get(viewer.pages["found"].as_uri())
        assert viewer.find("h1").text == "Tumour found"
        figures = viewer.driver.find_elements(By.CSS_SELECTOR, ".gallery figure")
        assert len(figures) == 6
        assert all(figure.is_displayed() for figure in figures)
        assert viewer.find("#bars").is_displayed()
        for selector in (".desk", ".copy", ".help"):
            assert not viewer.find(selector).is_displayed()
    finally:
        viewer.command("Emulation.setScriptExecutionDisabled", value=False)


def test_every_control_is_reached_by_the_keyboard_and_has_a_name(viewer: Viewer) -> None:
    viewer.open("found")
    tree = viewer.command("Accessibility.getFullAXTree")["nodes"]
    nameless = []
    for node in tree:
        properties = {one["name"]: one["value"].get("value") for one in node.get("properties", [])}
        role = node.get("role", {}).get("value")
        if properties.get("focusable") and role not in ("RootWebArea", "generic"):
            nameless += [] if node.get("name", {}).get("value") else [role]
    assert nameless == []
    reached = []
    for _ in range(60):
        ActionChains(viewer.driver).send_keys(Keys.TAB).perform()
        what = viewer.ask(
            "(document.activeElement.id || document.activeElement.name || document.activeElement.className"
            " || document.activeElement.textContent).toString()"
        )
        reached.append(what)
        if viewer.ask("document.activeElement.matches('.provenance summary')"):
            break
    order = ["sequence", "layout", "smaller", "larger", "reset", "save", "tool", "outline-on",
             "interval-on", "heat-on", "pane-0", "slider", "copy"]  # fmt: skip
    assert [one for one in reached if one in order] == order
    assert reached[0] == "skip"


def test_dark_mode_is_dark_and_keeps_its_contrast(viewer: Viewer) -> None:
    viewer.open("uncertain")
    dark = [{"name": "prefers-color-scheme", "value": "dark"}]
    viewer.command("Emulation.setEmulatedMedia", features=dark)

    def luminance(colour: str) -> float:
        parts = [int(part) / 255 for part in re.findall(r"\d+", colour)[:3]]
        linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    style = "getComputedStyle(document.querySelector(arguments[0]))[arguments[1]]"
    paper = luminance(viewer.ask(style, ".verdict", "backgroundColor"))
    assert paper < 0.03
    for selector in (
        "h1",
        ".reason",
        ".numbers .remark",
        ".findings td",
        ".where",
        ".findings .note",
    ):
        ink = luminance(viewer.ask(style, selector, "color"))
        assert (ink + 0.05) / (paper + 0.05) > 4.5, selector


def test_a_report_of_155_slices_is_below_5_mb_and_shows_all_planes(
    viewer: Viewer, tmp_path: Path
) -> None:
    spec = PhantomSpec(matrix=240, pixel_mm=1.0, slices=155, slice_spacing_mm=1.0)
    phantom = make_phantom(spec)
    probability = phantom.truth.astype(np.float32)
    analysis = make_analysis(
        phantom.truth.shape,
        phantom.geometry,
        values=phantom.sequences,
        probability=probability,
        findings=(make_finding(phantom.truth, phantom.geometry),),
    )
    path = tmp_path / "report.html"
    write_report(analysis, path)
    assert path.stat().st_size < 5_000_000
    viewer.pages["155"] = path
    viewer.open("155")
    viewer.choose("layout", "planes")
    for pane in range(3):
        assert near(viewer.pixels(pane), CYAN).any()
    with pytest.raises(
        JavascriptException
    ):  # the check above would see an error of the page's scripts
        viewer.ask("noSuchName")
    assert viewer.errors() == []
