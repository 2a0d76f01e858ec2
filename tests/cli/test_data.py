"""``gliosight data``: what the commands print, write, refuse, and return."""

from __future__ import annotations

import json
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


def _error(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    lines = captured.err.strip().splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    return lines[0]


def test_index_says_what_it_found(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "index", str(root), "-o", str(tmp_path / "m.csv")]) == 0
    assert "8 patients, 48 slices, 16 with tumour" in capsys.readouterr().out
    assert len(read_manifest(tmp_path / "m.csv").used) == 48
    assert run(["data", "index", str(root), "-o", str(tmp_path / "m.csv")]) == 7
    assert "--overwrite" in _error(capsys)
    assert (
        run(["data", "index", str(root), "-o", str(tmp_path / "m.csv"), "--overwrite", "--json"])
        == 0
    )
    told = json.loads(capsys.readouterr().out)
    assert told["whole"]["tumour_slices"] == 16
    assert told["excluded"] == {}


def test_index_of_a_set_with_flaws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_patient(tmp_path / "set", NAMES[0], copies="T1C")
    (folder / f"{NAMES[0]}_2_mask.tif").unlink()
    lines = [
        f"wrong,{NAMES[0]}/{NAMES[0]}_{k}.tif,{NAMES[0]}/{NAMES[0]}_{k}_mask.tif,0"
        for k in (1, 2, 3)
    ]
    table = "\n".join(["patient_id,image_path,mask_path,mask", *lines])
    (tmp_path / "set" / "data_mask.csv").write_text(table, "utf-8")
    assert run(["data", "index", str(tmp_path / "set"), "-o", str(tmp_path / "m.csv")]) == 0
    out = capsys.readouterr().out
    assert "1 patient, 2 slices, 1 with tumour" in out
    assert "T1C is missing in 1 patient; in 1 a copy" in out
    assert "1 slice excluded" in out
    assert "no mask" in out
    assert "patient_id contradicts the path in 3 of 3 rows" in out
    assert "contradicts the mask, which counts: 1" in out


def test_index_without_a_usable_slice_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_patient(tmp_path / "set", NAMES[0])
    for path in folder.glob("*_mask.tif"):
        path.unlink()
    assert run(["data", "index", str(tmp_path / "set"), "-o", str(tmp_path / "m.csv"), "-q"]) == 3
    assert "no slice can be used" in _error(capsys)
    again = [
        "data",
        "index",
        str(tmp_path / "set"),
        "-o",
        str(tmp_path / "m.csv"),
        "--overwrite",
        "--json",
    ]
    assert run(again) == 3
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 3
    # The manifest is there to be looked at.
    assert {row.excluded for row in read_manifest(tmp_path / "m.csv").rows} == {"no mask"}


def test_several_data_sets_from_index_to_audit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for seed, (folder, name) in enumerate([*(("lgg", name) for name in NAMES), *CASES]):
        write_patient(tmp_path / folder, name, seed=seed, marked=() if folder == "mri" else (3, 4))
    for path in (tmp_path / "mri").rglob("*_mask.tif"):
        path.unlink()
    (tmp_path / "people.csv").write_text(f"patient,person\nB_1,{NAMES[0]}\n", "utf-8")
    out, split = tmp_path / "m.csv", tmp_path / "s.json"
    roots = [str(tmp_path / "lgg"), str(tmp_path / "brats"), f"ms={tmp_path / 'mri'}"]
    call = ["data", "index", *roots, "-o", str(out), "--people", str(tmp_path / "people.csv")]
    assert run([*call, "--tumour-free", "ms"]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "12 patients of 11 persons, 72 slices, 20 with tumour" in words
    assert "lgg 8 48 16 33.3%" in words
    assert "ms 2 12 0 0.0% 0" in words
    call = ["data", "split", str(out), "-o", str(split), "--folds", "2", "--validation", "0.3"]
    call += ["--whole", "ms,brats"]
    assert run([*call, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["groups"]
    assert {tuple(one["collections"].items()) for one in told} in (
        {(("brats", 2), ("lgg", 4)), (("lgg", 4), ("ms", 2))},
        {(("brats", 2), ("lgg", 5)), (("lgg", 3), ("ms", 2))},
    )
    assert run([*call, "--overwrite"]) == 0
    assert "collections (patients)" in capsys.readouterr().out
    assert read_split(split).whole == ("ms", "brats")
    assert run(["data", "audit", str(out), "--split", str(split), "-q"]) == 0
    assert run(["data", "describe", str(out)]) == 0
    words = " ".join(capsys.readouterr().out.split())
    assert "collection patients slices tumour slices part tumour pixels brats 2 12 4" in words


def test_phantoms_of_both_kinds_are_a_data_set(tmp_path: Path, small_phantom: Phantom) -> None:
    write_nifti(small_phantom, tmp_path / "set")
    assert (
        run(["phantom", "-o", str(tmp_path / "set" / "lgg"), "--slices", "5", "--seed", "7"]) == 0
    )
    assert run(["data", "index", str(tmp_path / "set"), "-o", str(tmp_path / "m.csv"), "-q"]) == 0
    manifest = read_manifest(tmp_path / "m.csv")
    assert {row.kind for row in manifest.used} == {"slices", "nifti"}
    volume = sum(row.area_px for row in manifest.used if row.kind == "nifti")
    assert volume == int(small_phantom.truth.sum())


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["index"], 2, "ROOT"),
        (["index", "{root}"], 2, "--out"),
        (["index", "no/such", "-o", "m.csv"], 3, "such"),
        (["index", "{root}", "-o", "{root}"], 7, "a folder is in the way"),
        (["index", "{manifest}", "-o", "m.csv"], 4, "image_path"),
        (["index", "", "-o", "m.csv"], 2, "path is empty"),
        (["index", "{root}", "{root}", "-o", "m.csv"], 4, "two data sets have a patient"),
        (
            ["index", "{root}", "-o", "m.csv", "--people", "no.csv"],
            3,
            "patient, person, collection",
        ),
        (["index", "{root}", "-o", "m.csv", "--people", "{manifest}"], 4, "unknown column"),
        (["index", "a={root}", "-o", "m.csv", "--tumour-free", "b"], 2, "choose one of a"),
        (["index", "a={root}", "-o", "m.csv", "--tumour-free", "a"], 4, "marks"),
        (["split", "{manifest}", "-o", "s.json", "--whole", "a"], 2, "no collection 'a'"),
        (["split", "{manifest}", "-o", "s.json", "--whole", "a", "--by", "slice"], 2, "--whole"),
        (["describe", "no.csv"], 3, "gliosight data index"),
        (["describe", "{root}"], 3, "gliosight data index"),
        (["split", "no.csv", "-o", "s.json"], 3, "gliosight data index"),
        (["split", "{manifest}", "-o", "s.json", "--by", "moon"], 2, "institution"),
        (["split", "{manifest}", "-o", "s.json", "--folds", "1"], 2, "--folds"),
        (["split", "{manifest}", "-o", "s.json", "--folds", "99"], 2, "too few patients"),
        (["split", "{manifest}", "-o", "s.json", "--folds", "2", "--by", "slice"], 2, "--folds"),
        (["split", "{manifest}", "-o", "s.json", "--folds", "2", "--test", "0.1"], 2, "--test"),
        (
            ["split", "{manifest}", "-o", "s.json", "--test", "0.9", "--validation", "0.2"],
            2,
            "shares",
        ),
        (["split", "{manifest}", "-o", "s.json", "--test", "1"], 2, "--test"),
        (["audit", "{manifest}", "--split", "no.json"], 3, "gliosight data split"),
        (["audit", "{manifest}", "--split", "{manifest}"], 4, "not JSON"),
        (["show", "{manifest}", "-o", "f.bmp"], 2, ".png"),
        (["show", "{manifest}", "-o", "f.png", "-n", "0"], 2, "--count"),
        (["download", "-o", "{root}"], 7, "not empty"),
        (["downlod"], 2, "download"),
    ],
)
def test_wrong_calls_say_what_to_do(
    arguments: list[str],
    code: int,
    words: str,
    root: Path,
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace())
    given = [one.format(root=root, manifest=manifest) for one in arguments]
    assert run(["data", *given]) == code
    assert words in _error(capsys)
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
    options: list[str],
    groups: dict[str, int],
    manifest: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    out = tmp_path / "s.json"
    assert run(["data", "split", str(manifest), "-o", str(out), *options]) == 0
    printed = capsys.readouterr()
    assert printed.err == ""
    lines = {line.split()[0]: line.split() for line in printed.out.splitlines()}
    assert {name: int(lines[name][1]) for name in groups} == groups
    assert int(lines[next(iter(groups))][2]) == 6 * next(iter(groups.values()))
    split = read_split(out)
    assert {name: len(keys) for name, keys in split.groups.items()} == groups
    assert split.manifest_sha256 == read_manifest(manifest).sha256
    assert run(["data", "audit", str(manifest), "--split", str(out), "-q"]) == 0


def test_the_seed_decides(manifest: Path, tmp_path: Path) -> None:
    made = []
    for number, seed in enumerate((1, 1, 2, 3)):
        out = tmp_path / f"{number}.json"
        assert run(["data", "split", str(manifest), "-o", str(out), "--seed", str(seed), "-q"]) == 0
        made.append(read_split(out).groups)
    assert made[0] == made[1]
    assert made[2] != made[0] or made[3] != made[0]


def test_a_split_by_slice_warns(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "s.json"
    assert run(["data", "split", str(manifest), "-o", str(out), "--by", "slice", "--json"]) == 0
    printed = capsys.readouterr()
    assert "warning:" in printed.err
    assert "both sides" in printed.err
    told = json.loads(printed.out)
    assert sum(one["slices"] for one in told["groups"]) == 48
    assert run(["data", "audit", str(manifest), "--split", str(out), "-q"]) == 4


def test_describe_prints_what_the_tutorial_looks_at(
    manifest: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "describe", str(manifest)]) == 0
    words = " ".join(capsys.readouterr().out.split())
    for told in (
        "48 rows, 8 patients",
        "mask 48 48",  # info: the column, how many rows say something, how many different
        f"{NAMES[0]} 1 set/{NAMES[0]}/{NAMES[0]}_1.tif 0 0",  # head
        "no 32 66.7% yes 16 33.3%",  # value_counts
        "smallest value 0, largest 255",
        "pictures 32 x 32 x 3 uint8: 8 patients",
        "HT 4 24 8 33.3%",
    ):
        assert told in words
    assert run(["data", "describe", str(manifest), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["files"]["mask_most"] == 255
    assert told["institutions"]["HT"]["patients"] == 4


@pytest.mark.slow
def test_describe_writes_a_page(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    call = ["data", "describe", str(manifest), "-o", str(tmp_path / "page")]
    assert run(call) == 0
    assert "describe.html" in capsys.readouterr().out
    assert (tmp_path / "page" / "describe.html").read_text("utf-8").startswith("<!doctype html>")
    assert run(call) == 7
    assert "--overwrite" in _error(capsys)
    assert run([*call, "--overwrite", "-q"]) == 0


@pytest.mark.slow
def test_show_writes_a_figure(
    manifest: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("matplotlib")
    call = ["data", "show", str(manifest), "-n", "2", "--seed", "1", "-o", str(tmp_path / "f.png")]
    assert run(call) == 0
    first = capsys.readouterr().out
    assert first.count("pixels") == 2
    assert (tmp_path / "f.png").read_bytes().startswith(b"\x89PNG")
    assert run(call) == 7
    capsys.readouterr()
    assert run([*call, "--overwrite"]) == 0
    assert capsys.readouterr().out == first


def test_audit_tells_and_returns_4(
    manifest: Path, root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["data", "audit", str(manifest)]) == 0
    assert "unreadable 0" in " ".join(capsys.readouterr().out.split())
    shutil.copytree(root, tmp_path / "set")
    shutil.copy(manifest, tmp_path / "m.csv")
    for path in (tmp_path / "set" / NAMES[0]).glob("*_mask.tif"):
        path.unlink()
    for path in (tmp_path / "set" / NAMES[1]).glob("*_mask.tif"):
        path.unlink()
    assert run(["data", "audit", str(tmp_path / "m.csv")]) == 4
    out = capsys.readouterr().out
    assert "unreadable 12" in " ".join(out.split())
    assert "and 4 more" in out
    assert run(["data", "audit", str(tmp_path / "m.csv"), "--all"]) == 4
    assert capsys.readouterr().out.count("no such file") == 12
    assert run(["data", "audit", str(tmp_path / "m.csv"), "--json"]) == 4
    told = json.loads(capsys.readouterr().out)
    assert told["counts"]["unreadable"] == 12
    assert len(told["problems"]) == 12
    assert told["problems"][0].keys() == {"check", "subject", "text"}


@pytest.mark.parametrize(
    ("call", "module", "extra"),
    [
        (["show", "{manifest}", "-o", "f.png"], "matplotlib", "evaluate"),
        (["describe", "{manifest}", "-o", "page"], "matplotlib", "evaluate"),
        (["download", "-o", "lgg"], "kagglehub", "download"),
    ],
)
def test_a_missing_extra_is_named(
    call: list[str],
    module: str,
    extra: str,
    manifest: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [one for one in sys.modules if one.startswith(("gliosight.data.", f"{module}."))]:
        if name == "gliosight.data.drawing" or name.startswith(module):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    assert run(["data", *(one.format(manifest=manifest) for one in call)]) == 8
    assert f"gliosight[{extra}]" in _error(capsys)
    assert list(tmp_path.iterdir()) == []


def test_download_with_a_client(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hub = SimpleNamespace(dataset_download=lambda _: str(root))
    monkeypatch.setitem(sys.modules, "kagglehub", hub)
    assert run(["data", "download", "-o", str(tmp_path / "lgg"), "-q"]) == 0
    assert run(["data", "index", str(tmp_path / "lgg"), "-o", str(tmp_path / "m.csv")]) == 0
    assert "8 patients" in capsys.readouterr().out


@pytest.mark.slow
def test_download_by_the_real_client_without_a_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("kagglehub", reason="the extra download is not installed")
    # A proxy that nobody listens at: the real client fails as it does without a network.
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    assert run(["data", "download", "-o", str(tmp_path / "lgg"), "-q"]) == 9
    assert "Kaggle" in _error(capsys)
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
