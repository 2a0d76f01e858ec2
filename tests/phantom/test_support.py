"""The builder of the tests' DICOM studies: sound where it is meant to be, and true to its own truth."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pydicom
import pytest

from gliosight.phantom import Phantom, PhantomSpec, make_phantom
from gliosight.study import MrSequence
from tests.support.dicom_phantom import (
    SYNTAXES,
    TRAPS,
    DicomSpec,
    geometry_of,
    truth_of,
    turned,
    volume_of,
    write_dicom,
)
from tests.support.dicom_phantom.series import Export, all_series

from .exported import (
    CENTROID_MM,
    by_series,
    complaints,
    files_of,
    header_centroid,
    sorted_by_position,
    true_centroid,
)

NO_TRAPS: frozenset[str] = frozenset()
# Mean error of a lossy picture, as a part of the brightest value: far below the phantom's noise.
MEAN_ERROR = 0.01


@pytest.mark.parametrize("vendor", ["siemens", "ge", "philips", "canon"])
@pytest.mark.parametrize(("layout", "parts"), [("classic", 1), ("enhanced", 2)])
def test_dciodvfy_finds_no_errors(
    dciodvfy: str, tiny: Phantom, tmp_path: Path, vendor: str, layout: str, parts: int
) -> None:
    spec = DicomSpec(
        vendor=vendor,
        layout=layout,
        concatenation=parts,
        traps=frozenset(TRAPS),
        rotation=turned(13, -7, 29),
    )
    assert complaints(dciodvfy, write_dicom(tiny, tmp_path, spec)) == set()


@pytest.mark.parametrize(
    "changes",
    [
        {"contrast_tags": False, "layout": "enhanced"},
        {"repeats": {"times", "echoes"}, "layout": "enhanced"},
        {"identity": "anonymous", "tilt_degrees": 10, "uneven": 0.2, "missing": (1,)},
        {"bits": 16, "signed": True, "syntax": "explicit-be", "identity": "unicode"},
        {"syntax": "j2k-lossy", "contrast_tags": False, "repeats": {"times", "echoes"}},
        {"syntax": "jpeg-ls-near", "layout": "enhanced"},
    ],
    ids=lambda changes: " ".join(changes),
)
def test_dciodvfy_accepts_what_is_odd_but_sound(
    dciodvfy: str, tiny: Phantom, tmp_path: Path, changes: dict[str, Any]
) -> None:
    spec = DicomSpec(**changes, traps=NO_TRAPS)
    assert complaints(dciodvfy, write_dicom(tiny, tmp_path, spec)) == set()


def test_dciodvfy_would_complain(dciodvfy: str, tiny: Phantom, tmp_path: Path) -> None:
    folder = write_dicom(tiny, tmp_path, DicomSpec(no_frame_of_reference=True, traps=NO_TRAPS))
    assert complaints(dciodvfy, folder)


def pixels_of(ds: Any) -> np.ndarray:
    if ds.file_meta.TransferSyntaxUID == SYNTAXES["jpeg-extended"].uid:
        # pydicom's plugins leave 12 bits of this syntax out.
        (frame,) = pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=1)
        assert frame[frame.index(b"\xff\xc1") + 4] == 12
        return imagecodecs.jpeg_decode(frame)
    return ds.pixel_array


@pytest.mark.parametrize("syntax", [name for name, one in SYNTAXES.items() if one.lossy])
def test_lossy_syntaxes_come_close_and_say_so(tmp_path: Path, syntax: str) -> None:
    """The others give every value back: reading them is tested in ``tests/hostile``."""
    phantom = make_phantom(
        PhantomSpec(seed=3, slices=3, matrix=67, pixel_mm=2.0, slice_spacing_mm=6)
    )
    spec = DicomSpec(syntax=syntax, traps=NO_TRAPS)
    flair = sorted_by_position(by_series(write_dicom(phantom, tmp_path, spec))[1])
    wanted = volume_of(phantom, spec, MrSequence.FLAIR).astype(float)
    error = np.abs(np.stack([pixels_of(ds) for ds in flair]) - wanted)
    assert 0 < error.mean() < MEAN_ERROR * wanted.max()
    for ds in flair:
        assert ds.file_meta.TransferSyntaxUID == SYNTAXES[syntax].uid
        assert ds.LossyImageCompression == "01"
        assert ds.LossyImageCompressionMethod == SYNTAXES[syntax].lossy
        assert float(ds.LossyImageCompressionRatio) > 1


@pytest.mark.parametrize(
    ("order", "flips"),
    [
        ((0, 1, 2), (False, False, False)),
        ((0, 2, 1), (True, False, False)),
        ((1, 0, 2), (False, True, False)),
        ((1, 2, 0), (False, False, True)),
        ((2, 0, 1), (True, True, False)),
        ((2, 1, 0), (True, True, True)),
    ],
)
def test_files_say_where_the_lesion_is(
    tiny: Phantom, tmp_path: Path, order: tuple[int, int, int], flips: tuple[bool, bool, bool]
) -> None:
    spec = DicomSpec(
        order=order,
        flips=flips,
        rotation=turned(25, -40, 170),
        shift=(120, -200, 7),
        numbering="shuffled",
        traps=NO_TRAPS,
    )
    flair = sorted_by_position(by_series(write_dicom(tiny, tmp_path, spec))[1])
    truth = truth_of(tiny, spec)
    centroid = true_centroid(tiny, spec.rotation, spec.shift)
    assert np.abs(header_centroid(flair, truth) - centroid).max() < CENTROID_MM
    pixels = np.stack([ds.pixel_array for ds in flair])
    assert np.array_equal(pixels, volume_of(tiny, spec, MrSequence.FLAIR))
    # The same voxels are lesion, so the same values are under the mask.
    inside = np.minimum(tiny.sequences[MrSequence.FLAIR], 4095)[tiny.truth]
    assert np.array_equal(np.sort(pixels[truth]), np.sort(inside))
    middle = geometry_of(tiny, spec).to_world(np.argwhere(truth)).mean(axis=0)
    assert np.allclose(middle * (-1, -1, 1), centroid, atol=1e-9)


def test_tilt_gaps_and_missing_slices(tiny: Phantom, tmp_path: Path) -> None:
    spec = DicomSpec(tilt_degrees=15, uneven=0.3, missing=(1, 3), traps=NO_TRAPS)
    flair = sorted_by_position(by_series(write_dicom(tiny, tmp_path, spec))[1])
    assert [ds.InstanceNumber for ds in flair] == [1, 2, 3]
    steps = np.diff(np.array([ds.ImagePositionPatient for ds in flair], dtype=float), axis=0)
    assert np.allclose(steps[:, 1] / steps[:, 2], np.tan(np.radians(15)))
    assert steps[:, 2].sum() == pytest.approx(4 * 7.0)
    assert abs(steps[0, 2] - 14.0) > 0.1
    truth = truth_of(tiny, spec)
    assert np.array_equal(truth, tiny.truth[[0, 2, 4]])
    world = geometry_of(tiny, spec).to_world(np.argwhere(truth)).mean(axis=0) * (-1, -1, 1)
    assert np.abs(header_centroid(flair, truth) - world).max() < CENTROID_MM


def test_all_traps_are_there_in_scan_order_and_masks_hold_the_truth(
    tiny: Phantom, tmp_path: Path
) -> None:
    spec = DicomSpec(traps=frozenset(TRAPS))
    series = by_series(write_dicom(tiny, tmp_path, spec))
    traps = {one.kind: series[one.number] for one in all_series(Export(tiny, spec))}
    assert set(traps) == {*TRAPS, "FLAIR", "T1", "T1C"}
    times = [headers[0].SeriesTime for headers in traps.values()]
    assert times == sorted(times)
    for name, top in (("roi", 1), ("mask", 4095)):
        values = np.stack([ds.pixel_array for ds in sorted_by_position(traps[name])])
        assert np.array_equal(values, np.where(tiny.truth, top, 0))


def test_the_same_spec_is_the_same_bytes_and_another_has_other_uids(
    tiny: Phantom, tmp_path: Path
) -> None:
    one, two = (write_dicom(tiny, tmp_path / name) for name in "ab")
    assert [p.read_bytes() for p in files_of(one)] == [p.read_bytes() for p in files_of(two)]
    other = write_dicom(tiny, tmp_path / "c", DicomSpec(shift=(1, 0, 0)))
    uids = [
        {str(ds.SOPInstanceUID) for headers in by_series(folder).values() for ds in headers}
        for folder in (one, other)
    ]
    assert len(uids[0]) == 34
    assert not uids[0] & uids[1]
