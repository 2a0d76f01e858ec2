"""The training bench on a tiny set: packed right, varied right, resumed to the same weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the extra train is not installed")

from gliosight.errors import UsageError  # noqa: E402
from gliosight.infer.model import load_model  # noqa: E402
from gliosight.phantom import PhantomSpec, make_phantom, write_lgg  # noqa: E402
from gliosight.pipeline import Settings, analyze  # noqa: E402
from gliosight.train import fitting  # noqa: E402
from gliosight.train.augmentation import Strength, draw_plan, make_batch  # noqa: E402
from gliosight.train.export import SHIPPED_RULE, export_joint  # noqa: E402
from gliosight.train.fitting import JointFit, Recipe, fit, moving_average  # noqa: E402
from gliosight.train.losses import batch_dice_loss, joint_loss  # noqa: E402
from gliosight.train.networks.joint import JointNetwork  # noqa: E402
from gliosight.train.packed import PackedSlices, fold_of, pack  # noqa: E402
from gliosight.train.presets import load_recipe, preset_names  # noqa: E402

STILL = Strength(
    rotation_degrees=0, log_scale=0, log_aspect=0, shear=0, shift_pixels=0, log_gain=0, offset=0,
    log_gamma=0, bias=0, noise=0, blur_chance=0, lose_t1_chance=0, lose_t1c_chance=0,
    lose_both_chance=0, strip_chance=0, turn_order_chance=0,
)  # fmt: skip
TINY = Recipe(epochs=1, slices_per_epoch=8, batch=2, crop=64, imagenet=False)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("lgg")
    for seed in (1, 2):
        write_lgg(make_phantom(PhantomSpec(seed=seed, slices=6)), folder)
    return folder


@pytest.fixture(scope="module")
def slices(root: Path, tmp_path_factory: pytest.TempPathFactory) -> PackedSlices:
    return pack(root, tmp_path_factory.mktemp("pack"))


def test_packed_slices_are_the_files(root: Path, slices: PackedSlices) -> None:
    import tifffile

    assert slices.first.tolist() == [0, 6, 12]
    for row in (0, 5, 6, 11):
        patient = slices.patients[int(slices.patient_of(np.array([row]))[0])]
        number = row - int(slices.first[slices.patients.index(patient)]) + 1
        image = tifffile.imread(root / patient / f"{patient}_{number}.tif")
        mask = tifffile.imread(root / patient / f"{patient}_{number}_mask.tif")
        np.testing.assert_array_equal(slices.images[row], image.transpose(2, 0, 1))
        np.testing.assert_array_equal(slices.masks[row], mask > 0)
    assert slices.rows_of([slices.patients[1]]).tolist() == list(range(6, 12))


def test_a_second_start_takes_the_cache(root: Path, tmp_path: Path) -> None:
    pack(root, tmp_path)
    before = (tmp_path / "images.npy").stat().st_mtime_ns
    pack(root, tmp_path)
    assert (tmp_path / "images.npy").stat().st_mtime_ns == before


def test_folds_follow_names_and_institutions() -> None:
    patients = [f"TCGA_{code}_{k:04d}" for code in ("CS", "DU") for k in range(20)]
    dealt = fold_of(patients, 5)
    assert fold_of(patients[::-1], 5) == dealt
    for code in ("CS", "DU"):
        counts = np.bincount([dealt[one] for one in patients if code in one], minlength=5)
        assert counts.tolist() == [4] * 5


def test_without_variation_a_batch_is_the_normalised_slice(slices: PackedSlices) -> None:
    chosen = np.array([2, 8])
    plan = draw_plan(slices, chosen, 64, STILL, np.random.default_rng(0))
    images, masks = make_batch(slices, plan, 64)
    assert images.shape == (2, 9, 64, 64)
    for k, row in enumerate(chosen):
        patient = int(slices.patient_of(np.array([row]))[0])
        low, high, mean, std = slices.intensity[patient, 1]
        whole = (np.clip(slices.images[row, 1].astype(np.float32), low, high) - mean) / std
        # Between two pixels at most half of their difference is lost; compare smoothed sums.
        top, left = (round(float(one)) - 32 for one in slices.centre[patient])
        part = whole[top : top + 64, left : left + 64]
        both = (images[k, 4].numpy(), part)
        mirrored = (images[k, 4].numpy()[:, ::-1], part)
        agreement = max(np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in (both, mirrored))
        assert agreement > 0.9
    assert set(np.unique(masks)) <= {0.0, 1.0}


def test_mask_and_image_move_together(slices: PackedSlices) -> None:
    """The lesion is bright in FLAIR: whatever the plan, the mask has to lie on it."""
    positive = np.flatnonzero(slices.masks.any(axis=(1, 2)))
    strength = Strength(strip_chance=0, bias=0, noise=0, lose_both_chance=0)
    for seed in range(4):
        generator = np.random.default_rng(seed)
        plan = draw_plan(slices, generator.choice(positive, 4), 192, strength, generator)
        images, masks = make_batch(slices, plan, 192)
        flair, inside = images[:, 4].numpy(), masks[:, 0].numpy() > 0
        for k in range(4):
            if inside[k].sum() > 30:
                assert flair[k][inside[k]].mean() > np.percentile(flair[k], 75)


def test_a_plan_depends_on_its_generator_alone(slices: PackedSlices) -> None:
    batches = []
    for _ in range(2):
        plan = draw_plan(slices, np.arange(4), 64, Strength(), np.random.default_rng(5))
        batches.append(make_batch(slices, plan, 64))
    assert torch.equal(batches[0][0], batches[1][0])
    assert torch.equal(batches[0][1], batches[1][1])


def test_lost_sequences_are_flair(slices: PackedSlices) -> None:
    strength = Strength(lose_both_chance=1.0)
    plan = draw_plan(slices, np.arange(3), 64, strength, np.random.default_rng(0))
    images, _ = make_batch(slices, plan, 64)
    for channel in (0, 2, 3, 5, 6, 8):
        assert torch.equal(images[:, channel], images[:, 3 * (channel // 3) + 1])


def test_losses_know_right_from_wrong() -> None:
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, :, 2:5, 2:5] = 1
    right, wrong = (masks * 2 - 1) * 20, (1 - masks * 2) * 20
    label = torch.tensor([20.0, -20.0])
    assert float(batch_dice_loss(right, masks)) < 1e-3
    assert float(batch_dice_loss(wrong, masks)) > 0.9
    assert float(joint_loss(right, label, masks, 0.3)) < 1e-3
    assert float(joint_loss(right, -label, masks, 0.3)) == pytest.approx(0.3 * 20, rel=1e-3)


def test_average_forgets_its_beginning() -> None:
    update = moving_average(0.998)
    value = torch.tensor(100.0)
    for count in range(1, 400):
        value = update(value, torch.tensor(0.0), count)
    assert float(value) < 1e-3  # a fixed decay of 0.998 would leave 45


def _weights(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


@pytest.mark.slow
def test_a_run_that_is_cut_off_goes_on_to_the_same_weights(
    slices: PackedSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    start = JointNetwork().state_dict()
    from safetensors.torch import save_file

    save_file(start, tmp_path / "start.safetensors")
    options = {"initial": tmp_path / "start.safetensors", "checkpoint_every": 2}
    whole = fit(slices, slices.patients, TINY, tmp_path / "whole", **options)

    step = JointFit.training_step

    def interrupted(self: JointFit, *arguments: object) -> object:
        if self.global_step == 3:
            raise OSError("cut off")
        return step(self, *arguments)

    monkeypatch.setattr(JointFit, "training_step", interrupted)
    with pytest.raises(OSError, match="cut off"):
        fit(slices, slices.patients, TINY, tmp_path / "cut", **options)
    assert not (tmp_path / "cut" / "weights.safetensors").exists()
    monkeypatch.undo()
    resumed = fit(slices, slices.patients, TINY, tmp_path / "cut", resume=True, **options)
    one, two = _weights(whole), _weights(resumed)
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(two[name], one[name], rtol=0, atol=1e-6)
    assert any((one[name] != start[name]).any() for name in one)  # it did learn something


@pytest.mark.slow
def test_a_loss_that_is_no_number_stops_the_run(
    slices: PackedSlices, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fitting, "joint_loss", lambda logits, *_: logits.sum() * float("nan"))
    with pytest.raises(FloatingPointError, match="loss became nan"):
        fit(slices, slices.patients, TINY, tmp_path / "run")
    assert not (tmp_path / "run" / "weights.safetensors").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's exporter warns of its own internals
def test_exported_weights_do_the_main_job(
    slices: PackedSlices, tmp_path: Path, small_phantom: object
) -> None:
    weights = fit(slices, slices.patients, TINY, tmp_path / "run")
    card = export_joint(weights, tmp_path / "model", "mine", decision=SHIPPED_RULE)
    assert load_model(str(card)).card.name == "mine"
    analysis = analyze(small_phantom.study(), settings=Settings(model=str(card)))  # type: ignore[attr-defined]
    assert analysis.provenance.model == "mine"


def test_presets_are_checked_field_by_field() -> None:
    assert preset_names() == ["joint"]
    assert load_recipe("joint") == Recipe()
    changed = load_recipe("joint", ["epochs=3", "rate=1", "strength.noise=0"])
    assert (changed.epochs, changed.rate, changed.strength.noise) == (3, 1.0, 0.0)
    for change, words in (
        ("epochs", "NAME=VALUE"),
        ("epoch=3", "epochs"),
        ("epochs=many", "int"),
        ("batch=-1", "at least 0"),
        ("strength.colour=1", "strength.noise"),
    ):
        with pytest.raises(UsageError, match=words):
            load_recipe("joint", [change])
    with pytest.raises(UsageError, match="joint"):
        load_recipe("nonesuch")


@pytest.mark.slow
def test_the_command_trains_and_refuses_to_begin_twice(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from gliosight import cli

    call = ["train", "joint", "--data", str(root), "-o", str(tmp_path / "run"), "--threads", "2"]
    for change in ("slices_per_epoch=4", "epochs=1", "batch=2", "crop=64", "imagenet=false"):
        call += ["--set", change]
    assert cli.run(call) == 0
    assert (tmp_path / "run" / "weights.safetensors").is_file()
    assert "2 of 2 patients, 2 steps" in capsys.readouterr().out
    assert cli.run(call) == 2
    assert "finished" in capsys.readouterr().err
    assert cli.run([*call[:5], str(tmp_path / "other"), "--fold", "5/5"]) == 2
    assert "K/N" in capsys.readouterr().err
