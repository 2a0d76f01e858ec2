"""``gliosight data``: what the commands print, write, refuse, and return."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from gliosight.cli import run
from gliosight.cli.data import command
from gliosight.data.manifest import COLUMNS, read_manifest
from gliosight.data.split import read_split
from gliosight.phantom import Phantom, write_nifti
from tests.data.builders import write_patient, write_set

from .conftest import Call

NAMES = [
    f"TCGA_{code}_{k:04d}_20000101"
    for k, code in enumerate(["CS", "CS", "DU", "DU", "HT", "HT", "HT", "HT"])
]

# Of two further data sets: the collection's folder, and the patient.
CASES = [("brats", "B_1"), ("brats", "B_2"), ("mri", "p_1"), ("mri", "p_2")]

PAGE = Path(__file__).resolve().parents[2].joinpath("docs", "data.md").read_text("utf-8")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_set(tmp_path_factory.mktemp("cli") / "set", NAMES)


@pytest.fixture(scope="module")
def manifest(root: Path) -> Path:
    path = root.parent / "manifest.csv"
    assert run(["data", "index", str(root), "-o", str(path), "-q"]) == 0
    return path


def words_of(text: str) -> str:
    return " ".join(text.split())


def test_index_says_what_it_found(root: Path, tmp_path: Path, call: Call) -> None:
    arguments = ("data", "index", root, "-o", tmp_path / "m.csv")
    assert "8 patients, 48 slices, 16 with tumour" in call(*arguments).out
    assert len(read_manifest(tmp_path / "m.csv").used) == 48
    done = call(*arguments)
    assert (done.code, "--overwrite" in done.error) == (7, True)
    value = call(*arguments, "--overwrite", "--json").value
    assert value["whole"]["tumour_slices"] == 16
    assert value["excluded"] == {}


def test_index_of_a_set_with_flaws(tmp_path: Path, call: Call) -> None:
    folder = write_patient(tmp_path / "set", NAMES[0], copies="T1C")
    (folder / f"{NAMES[0]}_2_mask.tif").unlink()
    path = f"{NAMES[0]}/{NAMES[0]}_{{}}"
    rows = [f"wrong,{path.format(k)}.tif,{path.format(k)}_mask.tif,0" for k in (1, 2, 3)]
    table = "\n".join(["patient_id,image_path,mask_path,mask", *rows])
    (tmp_path / "set" / "data_mask.csv").write_text(table, "utf-8")
    out = call("data", "index", tmp_path / "set", "-o", tmp_path / "m.csv").out
    for words in (
        "1 patient, 2 slices, 1 with tumour",
        "T1C is missing in 1 patient; in 1 a copy",
        "1 slice excluded",
        "no mask",
        "patient_id contradicts the path in 3 of 3 rows",
        "contradicts the mask, which counts: 1",
    ):
        assert words in out


def test_index_without_a_usable_slice_says_so(tmp_path: Path, call: Call) -> None:
    folder = write_patient(tmp_path / "set", NAMES[0])
    for path in folder.glob("*_mask.tif"):
        path.unlink()
    arguments = ("data", "index", tmp_path / "set", "-o", tmp_path / "m.csv")
    done = call(*arguments, "-q")
    assert (done.code, "no slice can be used" in done.error) == (3, True)
    done = call(*arguments, "--overwrite", "--json")
    assert (done.code, done.value["error"]["exit_code"]) == (3, 3)
    # The manifest is there to be looked at.
    assert {row.excluded for row in read_manifest(tmp_path / "m.csv").rows} == {"no mask"}


@pytest.mark.slow
def test_several_data_sets_from_index_to_audit(tmp_path: Path, call: Call) -> None:
    for seed, (folder, name) in enumerate([*(("lgg", name) for name in NAMES), *CASES]):
        write_patient(tmp_path / folder, name, seed=seed, marked=() if folder == "mri" else (3, 4))
    for path in (tmp_path / "mri").rglob("*_mask.tif"):
        path.unlink()
    people, out, split = (tmp_path / name for name in ("people.csv", "m.csv", "s.json"))
    people.write_text(f"patient,person\nB_1,{NAMES[0]}\n", "utf-8")
    roots = (tmp_path / "lgg", tmp_path / "brats", f"ms={tmp_path / 'mri'}")
    done = call("data", "index", *roots, "-o", out, "--people", people, "--tumour-free", "ms")
    words = words_of(done.out)
    assert "12 patients of 11 persons, 72 slices, 20 with tumour" in words
    assert "lgg 8 48 16 33.3%" in words
    assert "ms 2 12 0 0.0% 0" in words
    arguments = ("data", "split", out, "-o", split, "--folds", 2, "--validation", "0.3")
    arguments += ("--whole", "ms,brats")
    groups = call(*arguments, "--json").value["groups"]
    assert {tuple(group["collections"].items()) for group in groups} in (
        {(("brats", 2), ("lgg", 4)), (("lgg", 4), ("ms", 2))},
        {(("brats", 2), ("lgg", 5)), (("lgg", 3), ("ms", 2))},
    )
    assert "collections (patients)" in call(*arguments, "--overwrite").out
    assert read_split(split).whole == ("ms", "brats")
    assert call("data", "audit", out, "--split", split, "-q").code == 0
    words = words_of(call("data", "describe", out).out)
    assert "collection patients slices tumour slices part tumour pixels brats 2 12 4" in words


@pytest.mark.slow
def test_phantoms_of_both_kinds_are_a_data_set(
    tmp_path: Path, small_phantom: Phantom, call: Call
) -> None:
    write_nifti(small_phantom, tmp_path / "set")
    call("phantom", "-o", tmp_path / "set" / "lgg", "--slices", 5, "--seed", 7)
    assert call("data", "index", tmp_path / "set", "-o", tmp_path / "m.csv", "-q").code == 0
    manifest = read_manifest(tmp_path / "m.csv")
    assert {row.kind for row in manifest.used} == {"slices", "nifti"}
    volume = sum(row.area_px for row in manifest.used if row.kind == "nifti")
    assert volume == int(small_phantom.truth.sum())


# One row for each exit code of a command, and what the options themselves exclude.
WRONG = {
    "index without a ROOT": ("index", 2, "ROOT"),
    "index without -o": ("index {root}", 2, "--out"),
    "index of nothing": ("index no/such -o m.csv", 3, "such"),
    "index onto a folder": ("index {root} -o {root}", 7, "a folder is in the way"),
    "index of another table": ("index {manifest} -o m.csv", 4, "image_path"),
    "index of one set twice": ("index {root} {root} -o m.csv", 4, "two data sets have a patient"),
    "an empty path": ("index '' -o m.csv", 2, "path is empty"),
    "--people that is not there": ("index {root} -o m.csv --people no.csv", 3, "patient, person"),
    "a --tumour-free that is unknown": (
        "index a={root} -o m.csv --tumour-free b",
        2,
        "choose one of a",
    ),
    "--whole by slice": ("split {manifest} -o s.json --whole a --by slice", 2, "--whole"),
    "describe without a manifest": ("describe no.csv", 3, "gliosight data index"),
    "an unknown --by": ("split {manifest} -o s.json --by moon", 2, "institution"),
    "one fold": ("split {manifest} -o s.json --folds 1", 2, "--folds"),
    "more folds than patients": ("split {manifest} -o s.json --folds 99", 2, "too few patients"),
    "folds by slice": ("split {manifest} -o s.json --folds 2 --by slice", 2, "--folds"),
    "a test share of folds": ("split {manifest} -o s.json --folds 2 --test 0.1", 2, "--test"),
    "shares above 1": ("split {manifest} -o s.json --test 0.9 --validation 0.2", 2, "shares"),
    "a test share of 1": ("split {manifest} -o s.json --test 1", 2, "--test"),
    "a split that is not there": ("audit {manifest} --split no.json", 3, "gliosight data split"),
    "a split that is a manifest": ("audit {manifest} --split {manifest}", 4, "not JSON"),
    "a figure of another kind": ("show {manifest} -o f.bmp", 2, ".png"),
    "a slice of nobody": ("show {manifest} -o f.png --slice 1", 2, "--patient"),
    "a patient who is not there": ("show {manifest} -o f.png --patient P", 2, "as in the manifest"),
    "no slice to show": ("show {manifest} -o f.png -n 0", 2, "--count"),
    "a folder in the way": ("download -o {root}", 7, "not empty"),
    "a misspelt command": ("downlod", 2, "download"),
}


@pytest.mark.parametrize(("line", "code", "words"), WRONG.values(), ids=WRONG)
def test_wrong_calls_say_what_to_do(
    line: str,
    code: int,
    words: str,
    root: Path,
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace())
    done = call("data", *shlex.split(line.format(root=root, manifest=manifest)))
    assert (done.code, words in done.error) == (code, True), done.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "groups"),
    [
        ([], {"train": 6, "validation": 1, "test": 1}),
        (["--validation", "0.25", "--test", "0.25"], {"train": 4, "validation": 2, "test": 2}),
        (["--folds", "4", "--validation", "0.2"], {"0": 2, "1": 2, "2": 2, "3": 2}),
        (["--by", "institution", "--validation", "0.25"], {"CS": 2, "DU": 2, "HT": 4}),
    ],
)
def test_split_writes_and_tells_the_groups(
    options: list[str], groups: dict[str, int], manifest: Path, tmp_path: Path, call: Call
) -> None:
    out = tmp_path / "s.json"
    done = call("data", "split", manifest, "-o", out, *options)
    assert (done.code, done.err) == (0, "")
    lines = {line.split()[0]: line.split() for line in done.out.splitlines()}
    assert {name: int(lines[name][1]) for name in groups} == groups
    assert all(int(lines[name][2]) == 6 * patients for name, patients in groups.items())
    split = read_split(out)
    assert {name: len(keys) for name, keys in split.groups.items()} == groups
    assert split.manifest_sha256 == read_manifest(manifest).sha256
    assert call("data", "audit", manifest, "--split", out, "-q").code == 0


def test_a_split_by_slice_warns(manifest: Path, tmp_path: Path, call: Call) -> None:
    out = tmp_path / "s.json"
    done = call("data", "split", manifest, "-o", out, "--by", "slice", "--json")
    assert "warning:" in done.err
    assert "both sides" in done.err
    assert sum(group["slices"] for group in done.value["groups"]) == 48
    assert call("data", "audit", manifest, "--split", out, "-q").code == 4


def test_describe_prints_what_the_tutorial_looks_at(manifest: Path, call: Call) -> None:
    printed = words_of(call("data", "describe", manifest).out)
    for words in (
        "48 rows, 8 patients",
        "mask 48 48",  # info: the column, how many rows say something, how many different
        f"{NAMES[0]} 1 set/{NAMES[0]}/{NAMES[0]}_1.tif 0 0",  # head
        "no 32 66.7% yes 16 33.3%",  # value_counts
        "smallest value 0, largest 255",
        "pictures 32 x 32 x 3 uint8: 8 patients",
        "HT 4 24 8 33.3%",
    ):
        assert words in printed
    value = call("data", "describe", manifest, "--json").value
    assert value["files"]["mask_most"] == 255
    assert value["institutions"]["HT"]["patients"] == 4


@pytest.mark.slow
def test_describe_and_show_write_pictures(manifest: Path, tmp_path: Path, call: Call) -> None:
    pytest.importorskip("matplotlib")
    arguments = ("data", "describe", manifest, "-o", tmp_path / "page")
    assert "describe.html" in call(*arguments).out
    assert (tmp_path / "page" / "describe.html").read_text("utf-8").startswith("<!doctype html>")
    done = call(*arguments)
    assert (done.code, "--overwrite" in done.error) == (7, True)
    assert call(*arguments, "--overwrite", "-q").code == 0
    arguments = ("data", "show", manifest, "-n", 2, "--seed", 1, "-o", tmp_path / "f.png")
    first = call(*arguments).out
    assert first.count("pixels") == 2
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert call(*arguments).code == 7
    assert call(*arguments, "--overwrite").out == first
    patient, number = first.split()[0].split(":")
    named = ("--patient", patient, "--slice", number, "--mark", "outline", "--overwrite")
    assert call(*arguments, *named).out.splitlines()[0] in first.splitlines()


@pytest.mark.slow
def test_audit_tells_and_returns_4(manifest: Path, root: Path, tmp_path: Path, call: Call) -> None:
    assert "unreadable 0" in words_of(call("data", "audit", manifest).out)
    shutil.copytree(root, tmp_path / "set")
    shutil.copy(manifest, tmp_path / "m.csv")
    for name in NAMES[:2]:
        for path in (tmp_path / "set" / name).glob("*_mask.tif"):
            path.unlink()
    arguments = ("data", "audit", tmp_path / "m.csv")
    done = call(*arguments)
    assert done.code == 4
    assert "unreadable 12" in words_of(done.out)
    assert "and 4 more" in done.out
    done = call(*arguments, "--all")
    assert (done.code, done.out.count("no such file")) == (4, 12)
    value = call(*arguments, "--json").value
    assert value["counts"]["unreadable"] == len(value["problems"]) == 12
    assert value["problems"][0].keys() == {"check", "subject", "text"}


@pytest.mark.parametrize(
    ("arguments", "module", "extra"),
    [
        (["show", "{}", "-o", "f.png"], "matplotlib", "evaluate"),
        (["describe", "{}", "-o", "page"], "matplotlib", "evaluate"),
        (["download", "-o", "lgg"], "kagglehub", "download"),
    ],
)
def test_a_missing_extra_is_named(
    arguments: list[str],
    module: str,
    extra: str,
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Call,
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(sys.modules):
        if name == "gliosight.data.drawing" or name.startswith(f"{module}."):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    done = call("data", *(text.format(manifest) for text in arguments))
    assert (done.code, f"[{extra}]" in done.error) == (8, True)
    assert list(tmp_path.iterdir()) == []


def test_download_with_a_client(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    hub = SimpleNamespace(dataset_download=lambda _: str(root))
    monkeypatch.setitem(sys.modules, "kagglehub", hub)
    assert call("data", "download", "-o", tmp_path / "lgg", "-q").code == 0
    assert "8 patients" in call("data", "index", tmp_path / "lgg", "-o", tmp_path / "m.csv").out


@pytest.mark.slow
def test_download_by_the_real_client_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: Call
) -> None:
    pytest.importorskip("kagglehub", reason="the extra download is not installed")
    # A proxy that nobody listens at: the real client fails as it does without a network.
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    done = call("data", "download", "-o", tmp_path / "lgg", "-q")
    assert (done.code, "Kaggle" in done.error) == (9, True)
    assert not (tmp_path / "lgg").exists()


@pytest.mark.parametrize("line", re.findall(r"^gliosight data .*$", PAGE, re.MULTILINE))
def test_calls_in_the_docs_are_calls(line: str) -> None:
    name, *arguments = shlex.split(line, comments=True)[2:]
    with command.commands[name].make_context(name, arguments) as context:
        assert context.params


def test_every_command_and_column_is_in_the_docs() -> None:
    for name in command.commands:
        assert f"\n## {name}\n" in PAGE
    for name in COLUMNS:
        assert f"`{name}`" in PAGE
