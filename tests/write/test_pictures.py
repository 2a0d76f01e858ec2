"""Pictures: left stays left, a pixel stays a pixel, and the contact sheet is proof against names."""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageDraw
from scipy.ndimage import binary_erosion

from gliosight.analysis import Status
from gliosight.flags import flag
from gliosight.phantom import PhantomSpec, make_phantom
from gliosight.study import Geometry, MrSequence
from gliosight.write.overview import (
    OUTLINE,
    STATUS_COLOUR,
    draw_overview,
    drawable,
    head_lines,
    write_overview,
)
from gliosight.write.pictures import (
    HEAT_FROM,
    KNEE,
    Window,
    choose_slices,
    encode_grey,
    encode_heat,
    find_frame,
    find_tissue,
    find_window,
    plan_cuts,
    plan_display,
    position_words,
    svg_path,
    trace,
)

from .builders import LEFT_LESION, ORIENTATIONS, make_analysis, make_geometry, paint

SHAPE = (24, 96, 80)
EDGES = {
    "axial": ("A", "P", "R", "L"),
    "coronal": ("S", "I", "R", "L"),
    "sagittal": ("S", "I", "A", "P"),
}


@pytest.mark.parametrize("tilt", [0, 20, -20])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_every_orientation_is_shown_the_radiological_way(orientation, tilt):
    geometry = make_geometry(SHAPE, orientation, tilt_degrees=tilt)
    display = plan_display(geometry, SHAPE)
    assert display.plane == orientation.split()[0]
    letters = (display.top, display.bottom, display.left, display.right)
    assert tuple(edge[0] for edge in letters) == EDGES[display.plane]
    # A tilt about the R axis leaves R and L alone, and adds a second letter to the others.
    for edge in letters:
        assert len(edge) == (1 if edge[0] in "RL" or tilt == 0 else 2)
    # The letters are true: the lesion is left, the marker right and anterior, wherever it is shown.
    analysis = make_analysis(SHAPE, geometry)
    index = int(analysis.areas_px.argmax())
    _, columns = np.nonzero(display.turn(analysis.mask[index]))
    if display.plane == "sagittal":  # the slice itself is left of the middle
        assert position_words(geometry)[index].startswith("L")
        assert columns.mean() < display.columns / 2
    else:
        assert columns.mean() > display.columns / 2
    if display.plane == "axial" and tilt == 0:
        brightest = analysis.study.flair.values.argmax()
        marker = np.arange(np.prod(SHAPE)).reshape(SHAPE) == brightest
        ((row, column),) = np.argwhere(display.turn(marker.any(axis=0)))
        assert row < display.rows / 2
        assert column < display.columns / 2


def test_double_oblique_names_the_nearest_plane():
    down = np.array([0.2, -0.9, -0.3])
    across = np.cross(down, [0.1, 0.2, 1.0])
    down, across = down / np.linalg.norm(down), across / np.linalg.norm(across)
    step = np.cross(across, down)
    geometry = Geometry(np.arange(4)[:, None] * step * 5, down, across, (1.0, 1.0))
    display = plan_display(geometry, (4, 10, 10))
    assert (display.plane, display.oblique) == ("axial", True)
    assert display.plane_words == "oblique axial"
    assert display.left.startswith("R")
    assert display.top.startswith("A")


@pytest.mark.parametrize("believed", ["sizes", "all but sides", None])
def test_without_sides_to_believe_nothing_is_turned_and_nothing_is_claimed(believed):
    known = make_geometry(SHAPE, "sagittal", spacing=(1.0, 3.0))
    geometry = None if believed is None else replace(known, believed=believed)
    display = plan_display(geometry, SHAPE)
    plane = np.arange(96 * 80).reshape(96, 80)
    assert np.array_equal(display.turn(plane), plane)
    assert display.plane is None
    assert not any((display.top, display.bottom, display.left, display.right))
    assert display.aspect == pytest.approx(80 * (1 if geometry is None else 3) / 96)
    assert position_words(geometry) is None


def test_pixel_aspect_is_the_patients_and_turns_with_the_picture():
    geometry = make_geometry(SHAPE, "axial", spacing=(1.0, 3.0))
    assert plan_display(geometry, SHAPE).aspect == pytest.approx(80 * 3 / 96)
    turned = make_geometry(SHAPE, "axial transposed", spacing=(1.0, 3.0))
    display = plan_display(turned, SHAPE)
    assert (display.rows, display.columns, display.pixel) == (80, 96, (3.0, 1.0))
    assert display.aspect == pytest.approx(96 / (80 * 3))


def test_places_do_not_depend_on_the_way_the_slices_are_numbered():
    up = position_words(make_geometry(SHAPE, "axial"))
    down = position_words(make_geometry(SHAPE, "axial from above"))
    assert up == down[::-1]
    assert up[0] == "I 69.0 mm"
    assert up[-1] == "S 69.0 mm"


def fill(loops, shape):
    """Even-odd fill of loops by an independent painter: Pillow polygons, exclusive or."""
    scale = 4  # polygons include their border: on a finer grid pixel centres lie clear of it
    total = Image.new("1", (shape[1] * scale, shape[0] * scale))
    for loop in loops:
        one = Image.new("1", total.size)
        ImageDraw.Draw(one).polygon([(int(x) * scale, int(y) * scale) for x, y in loop], fill=1)
        total = ImageChops.logical_xor(total, one)
    return np.asarray(total)[scale // 2 :: scale, scale // 2 :: scale]


def random_mask(seed, density, shape=(17, 23)):
    return np.random.default_rng(seed).random(shape) < density


MASKS = {
    "one pixel": np.eye(1, 1, dtype=bool),
    "corner of the picture": np.pad(np.ones((2, 3), bool), ((0, 4), (0, 5))),
    "whole picture": np.ones((5, 4), bool),
    "diagonal touch": np.eye(6, dtype=bool),
    "other diagonal": np.eye(6, dtype=bool)[::-1],
    "hole": np.pad(np.zeros((2, 2), bool), 2, constant_values=True),
    "island in a hole": np.pad(np.pad(np.ones((1, 2), bool), 1), 2, constant_values=True),
    **{f"noise {d}": random_mask(k, d) for k, d in enumerate((0.1, 0.5, 0.9))},
}


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_an_outline_filled_again_is_the_mask_to_the_pixel(mask):
    loops = trace(mask)
    assert np.array_equal(fill(loops, mask.shape), mask)
    # Every loop turns at every corner and closes with a run down.
    for loop in loops:
        steps = np.diff(np.vstack([loop, loop[:1]]), axis=0)
        assert ((steps != 0).sum(axis=1) == 1).all()
        assert (np.diff(np.flatnonzero(steps[:, 0])) == 2).all()


def test_svg_path_leads_through_the_same_corners():
    loops = trace(MASKS["island in a hole"])
    path = svg_path(loops)
    read = []
    for part in path.split("z")[:-1]:
        at = np.array([int(one) for one in re.match(r"M(\d+) (\d+)", part).groups()])
        corners = [at]
        for way, length in re.findall(r"([hv])(-?\d+)", part):
            step = np.array([1, 0] if way == "h" else [0, 1])
            at = at + step * int(length)
            corners.append(at)
        read.append(np.array(corners))
    assert len(read) == len(loops) == 3
    for one, other in zip(read, loops, strict=True):
        assert np.array_equal(one, other)
    assert svg_path(trace(np.zeros((3, 3), bool))) == ""


def test_the_window_ignores_air_and_outliers():
    analysis = make_analysis(SHAPE)
    values = analysis.study.flair.values.copy()
    window = find_window(values)
    values[3, 4, 5] = 1e7
    again = find_window(values)
    assert again.high == pytest.approx(window.high, rel=0.05)
    grey = window.apply(values[12])
    assert grey[:6, :6].mean() < 20  # air
    assert 60 < np.median(grey[grey > 30]) < 220  # tissue keeps its middle tones
    assert grey.max() == 255


@pytest.mark.slow
@pytest.mark.parametrize("skull", [True, False])
def test_the_brain_sets_the_window_whether_or_not_the_scalp_is_there(skull):
    head = make_phantom(PhantomSpec(seed=4, slices=14, slice_spacing_mm=10.0, skull=skull))
    brain = make_phantom(PhantomSpec(seed=4, slices=14, slice_spacing_mm=10.0, skull=False))
    deep = binary_erosion(brain.sequences[MrSequence.T1] > 100, iterations=4) & ~brain.truth
    for sequence in MrSequence:
        values = head.sequences[sequence]
        grey = find_window(values).apply(values)
        tissue = np.median(grey[deep])
        assert 95 < tissue < 225, sequence  # T1 with a scalp was at 90
        assert (grey[deep] == 255).mean() < 0.03
        if sequence is MrSequence.FLAIR:  # the lesion is bright, and its inside is seen
            assert np.median(grey[head.truth]) > 1.5 * tissue
            assert (grey[head.truth] == 255).mean() < 0.5


def test_an_inside_of_one_value_is_not_black():
    values = np.zeros((6, 60, 60))
    values[:, 10:50, 10:50] = 300
    values[:, 25:30, 25:30] = 900
    grey = find_window(values).apply(values)
    assert 80 < grey[3, 15, 15] < 160
    assert grey[3, 27, 27] > 200


def test_fat_that_outshines_the_brain_does_not_hide_it():
    """On T1 alone only the bright ring would count as head."""
    rows, columns = np.ogrid[-60:60, -60:60]
    radius = np.hypot(rows, columns) + np.zeros((10, 1, 1))
    flair = np.where(radius < 55, 300.0, 0.0)
    t1 = np.where(radius < 48, 90 + rows % 7, np.where(radius < 55, 4000.0, 0.0))
    window = find_window(t1, find_tissue(flair))
    assert 90 < np.median(window.apply(t1)[radius < 40]) < 225


def test_a_coded_picture_keeps_what_is_brighter_than_its_window():
    window = Window(100.0, 200.0, 600.0)
    values = np.array([[0, 100, 150, 200, 400, 600, 9000]])
    assert window.apply(values).tolist() == [[0, 0, 127, 255, 255, 255, 255]]
    assert window.encode(values).tolist() == [[0, 0, 112, KNEE, 240, 255, 255]]
    # Where nothing is brighter, and where nothing can be told apart.
    assert Window(0.0, 10.0, 10.0).encode(np.array([[10, 20]])).tolist() == [[KNEE, KNEE]]
    assert Window(5.0, 5.0, 5.0).encode(np.array([[1, 9]])).tolist() == [[0, 0]]


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_planes_across_a_thin_stack_are_shown_the_radiological_way(orientation):
    geometry = make_geometry(SHAPE, orientation, slice_spacing=2.2)
    display = plan_display(geometry, SHAPE)
    cuts = plan_cuts(geometry, display)
    shown = {cut.plane: (cut.top, cut.bottom, cut.left, cut.right) for cut in cuts}
    assert shown | {display.plane: EDGES[display.plane]} == EDGES
    # The lesion is found where the letters say the patient's left, front and top are.
    _, probability = paint(SHAPE, geometry)
    stack = np.stack([display.turn(plane) for plane in probability > 0.5])
    middle = dict(
        zip("kyx", np.argwhere(stack).mean(axis=0) - np.array(stack.shape) / 2, strict=True)
    )
    towards = {"L": -LEFT_LESION[0], "A": LEFT_LESION[1], "S": LEFT_LESION[2]}
    for cut in cuts:
        for axis, flip, letter in (
            (cut.across, cut.flip_across, cut.right),
            (cut.down, cut.flip_down, cut.bottom),
        ):
            sign = {"L": "L", "R": "L", "A": "A", "P": "A", "S": "S", "I": "S"}[letter]
            away = towards[sign] * (1 if letter == sign else -1)
            # A stack may end inside the lesion: then its middle is nearer to the stack's.
            assert 0.4 < middle[axis] * 2.2 * (-1 if flip else 1) / away < 1.5


def test_there_are_no_planes_across_thick_few_or_sheared_slices():
    def cuts(geometry):
        return plan_cuts(geometry, plan_display(geometry, (geometry.slices, 96, 80)))

    assert len(cuts(make_geometry(SHAPE, slice_spacing=3.0))) == 2
    assert not cuts(make_geometry(SHAPE, slice_spacing=3.5))
    assert not cuts(make_geometry((7, 96, 80), slice_spacing=1.0))
    thin = make_geometry(SHAPE, slice_spacing=1.0)
    sheared = replace(thin, origins=thin.origins + np.arange(24)[:, None] * [0, 0.3, 0])
    assert not cuts(sheared)
    uneven = replace(thin, origins=thin.origins + np.arange(24)[:, None] ** 2 * [0, 0, 0.1])
    assert not cuts(uneven)
    assert not cuts(replace(thin, believed="sizes"))
    assert not plan_cuts(None, plan_display(None, SHAPE))


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 7), (3, 1, 1), (2, 5, 1), (1, 300, 2)])
def test_weird_sizes_and_constant_images_have_a_window(shape):
    for values in (
        np.zeros(shape),
        np.full(shape, 7, np.int16),
        np.arange(np.prod(shape)).reshape(shape),
    ):
        grey = find_window(values).apply(values[0])
        assert grey.dtype == np.uint8
        Image.open(io.BytesIO(encode_grey(grey, 64))).load()


@pytest.mark.slow
def test_the_box_cuts_air_away_but_never_the_mask():
    analysis = make_analysis(SHAPE)
    values = np.pad(analysis.study.flair.values, ((40, 9), (30, 60), (50, 20)))
    mask = np.zeros(values.shape, bool)
    mask[2, 3, 139] = True
    empty = find_frame(find_tissue(values), np.zeros_like(mask))
    assert 36 <= empty[0].start <= 41
    assert 20 < empty[1].start < 40
    assert 110 < empty[1].stop < 150
    assert mask[find_frame(find_tissue(values), mask)].sum() == 1
    nothing = np.zeros((3, 4, 5))
    assert nothing[find_frame(find_tissue(nothing), nothing > 0)].shape == (3, 4, 5)


def test_pictures_are_shrunk_never_enlarged():
    for shape, size in (((512, 256), (192, 384)), ((100, 50), (50, 100)), ((1, 5000), (384, 1))):
        jpeg = encode_grey(np.zeros(shape, np.uint8), 384)
        assert Image.open(io.BytesIO(jpeg)).size == size


def test_heat_is_clear_where_there_is_nothing_and_opaque_with_probability():
    probability = np.zeros((40, 40), np.float32)
    assert encode_heat(probability, 384) is None
    probability[10:20, 10:20], probability[30, 30] = 0.99, HEAT_FROM / 2
    picture = np.asarray(Image.open(io.BytesIO(encode_heat(probability, 384))).convert("RGBA"))
    assert picture[0, 0, 3] == 0
    assert picture[30, 30, 3] == 0
    assert picture[15, 15, 3] > 100


@pytest.mark.parametrize(
    ("count", "limit", "always"),
    [
        (3, 40, [1]),
        (155, 40, [77, 3, 77]),
        (155, 6, [1, 2, 3, 4, 5, 6, 7]),
        (41, 40, [0]),
        (100, 40, []),
    ],
)
def test_slices_are_chosen_evenly_and_always_the_ones_asked_for(count, limit, always):
    chosen = choose_slices(count, limit, always)
    assert chosen == sorted(set(chosen))
    assert len(chosen) == min(count, limit)
    assert set(list(dict.fromkeys(always))[:limit]) <= set(chosen)
    assert chosen[0] >= 0
    assert chosen[-1] < count


def outline_columns(sheet):
    """Where on the sheet outline-coloured pixels are, as parts of its width."""
    pixels = np.asarray(sheet).astype(int)
    near = np.abs(pixels - OUTLINE).sum(axis=-1) < 60
    return np.nonzero(near)[1] / pixels.shape[1]


@pytest.mark.slow
def test_the_sheet_is_a_picture(tmp_path):
    write_overview(make_analysis(), tmp_path / "overview.png")
    with Image.open(tmp_path / "overview.png") as sheet:
        sheet.load()
        assert sheet.format == "PNG"
        assert sheet.width == 1600
        assert 500 < sheet.height < 2600


@pytest.mark.slow
@pytest.mark.parametrize("orientation", ["axial flipped", "coronal", "axial transposed"])
def test_the_outline_is_on_the_side_of_the_lesion(orientation):
    # One slice: its left is the sheet's left, and the lesion is the patient's left, shown right.
    whole = make_analysis(geometry=orientation)
    index = whole.findings[0].largest_slice
    cut = slice(index, index + 1)
    geometry = whole.study.geometry
    analysis = make_analysis(
        (1, *whole.study.shape[1:]),
        replace(geometry, origins=geometry.origins[cut]),
        values={name: volume.values[cut] for name, volume in whole.study.sequences.items()},
        probability=whole.maps.probability[cut],
    )
    columns = outline_columns(draw_overview(analysis))
    assert len(columns) > 100
    assert columns.mean() > 0.52


@pytest.mark.slow
def test_no_outline_where_nothing_was_found():
    assert len(outline_columns(draw_overview(make_analysis((3, 24, 20), lesion=False)))) == 0


@pytest.mark.parametrize(
    ("shape", "known"),
    [((1, 1, 1), True), ((1, 1, 200), False), ((2, 200, 1), True), ((70, 8, 8), False)],
)
def test_weird_sizes_have_a_sheet(shape, known):
    values = {MrSequence.FLAIR: np.arange(np.prod(shape), dtype=np.int16).reshape(shape)}
    analysis = make_analysis(
        shape,
        make_geometry(shape) if known else None,
        values=values,
        probability=np.full(shape, 0.9, np.float32),
        sequences=(MrSequence.FLAIR,),
    )
    assert draw_overview(analysis).width == 1600


def test_what_the_font_lacks_is_an_escape():
    assert drawable("日本 ünï a–b\x1b") == r"\u65e5\u672c \xfcn\xef a\u2013b\x1b"
    assert drawable("\U0001f9e0\udce9") == r"\U0001f9e0\udce9"


@pytest.mark.slow
def test_names_of_any_kind_do_not_hurt_and_never_look_alike():
    names = ["脑部", "研究", "ünï", "uni", "üni", "a–b", "a-b", "a—b", "???", "", "x" * 5000]
    names += ["\ud800\udcff", "a\nb\x1b[2J\x00", "مرحبا"]
    sheets = {
        draw_overview(make_analysis((1, 8, 8), study_id=name, status=Status.NOT_ASSESSED)).tobytes()
        for name in names
    }
    assert len(sheets) == len(names)


@pytest.mark.parametrize(
    ("slices", "lesion", "words"),
    [
        (1, False, "0.0 ml (0 voxels), 1 slice"),
        (2, False, "0.0 ml (0 voxels), 2 slices"),
        (70, False, "0.0 ml (0 voxels), 40 of 70 slices shown"),
        (24, True, " ml, 1 finding, 24 slices"),
    ],
)
def test_numbers_and_words_agree(slices, lesion, words):
    analysis = make_analysis((slices, 24, 20), lesion=lesion)
    facts = head_lines(analysis, min(slices, 40))[1]
    assert facts.startswith("Volume ")
    assert facts.endswith(words)


def test_the_overview_says_what_the_verdict_is_worth():
    flags = (flag("NO_GEOMETRY", "No millimetres."), flag("SCATTERED", "Many foci."))
    shape = (4, 24, 20)
    bounds = "(tumour found from 0.90, uncertain from 0.10)"
    lines = head_lines(make_analysis(shape, status=Status.UNCERTAIN, flags=flags), 4)
    assert lines[0] == (
        f"Probability of tumour 0.60 {bounds}, for collections where 86 of 100 studies have one"
    )
    assert re.fullmatch(
        r"Volume \S+ ml, 90 % interval \S+ to \S+ ml, 1 candidate, 4 slices", lines[1]
    )
    assert lines[2:] == ["2 warnings; the worst: Many foci."]
    lines = head_lines(make_analysis(shape, lesion=False), 4)
    assert lines[2:] == ["No warnings", "This does not rule out a tumour."]
    lines = head_lines(make_analysis(shape, prevalence=None), 4)
    assert lines[0] == f"Score, not calibrated, 0.97 {bounds}"
    refused = make_analysis(shape, status=Status.NOT_ASSESSED)
    reason = refused.decision.reason
    assert head_lines(refused, 4) == [reason, "4 slices"]
    # The reason is a flag, too; it is said once.
    flagged = replace(refused, flags=(flag("NO_CONTRAST", reason), *flags[:1]))
    assert head_lines(flagged, 4) == [reason, "4 slices", "1 warning: No millimetres."]


def test_long_warnings_are_wrapped_and_doubt_has_a_calm_colour():
    long = flag("SYMMETRIC", "A long sentence of many words that has to be read whole. " * 4)
    short = make_analysis((1, 8, 8), status=Status.UNCERTAIN)
    grown = replace(short, flags=(long,))
    assert draw_overview(grown).height > draw_overview(short).height
    for status in (Status.UNCERTAIN, Status.NOT_ASSESSED):
        red, _, blue = STATUS_COLOUR[status]
        assert blue > red  # neither orange nor red
    assert set(STATUS_COLOUR) == set(Status)
