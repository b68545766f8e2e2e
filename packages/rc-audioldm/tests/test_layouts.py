"""Layouts of MAESTRO, URMP and FSD50K: the original's captions, and ours."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from pentatonic.errors import FormatError, InputError, UsageError
from rc_audioldm.data.layouts.audio_index import AudioIndex
from rc_audioldm.data.layouts.fsd50k import fsd50k_rows, parse_labels, split_of
from rc_audioldm.data.layouts.maestro import maestro_rows
from rc_audioldm.data.layouts.pairs import DataSet, collect_pairs, rows_below, write_pairs
from rc_audioldm.data.layouts.urmp import INSTRUMENTS, urmp_caption, urmp_rows


def read_io(golden: Any, case: str) -> Any:
    return json.loads((golden(case).folder / "io.json").read_text(encoding="utf-8"))


@pytest.fixture
def tree(tmp_path: Path, golden: Any) -> tuple[Path, Any]:
    """The small trees of the golden, with its tables."""
    io = read_io(golden, "pairs_edges")
    for name in io["files"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "maestro" / "maestro-v3.0.0.csv").write_text(io["csv"]["maestro"])
    truth = tmp_path / "fsd" / "FSD50K.ground_truth"
    truth.mkdir()
    (truth / "dev.csv").write_text(io["csv"]["dev_with_extension"])
    (truth / "eval.csv").write_text("fname,labels,mids\n12.wav,,\n")
    (truth / "vocabulary.csv").write_text(io["csv"]["vocabulary"])
    return tmp_path, io


def captions(folder: str, rows: Any) -> list[list[str]]:
    return [[f"{folder}/{row.path}", row.caption] for row in rows]


def test_maestro_as_the_original_and_without_its_errors(tree: Any) -> None:
    root, io = tree
    # Which of two files of the same name comes first was up to the disk of the original's machine.
    files = [root / "maestro" / "2006" / "a.wav", *AudioIndex(root / "maestro").files]
    index = AudioIndex(root / "maestro", files)
    assert captions("maestro", maestro_rows(root / "maestro", legacy=True, index=index)) == io["maestro"]
    ours = captions("maestro", maestro_rows(root / "maestro", index=index))
    assert [path for path, _ in ours] == [path for path, _ in io["maestro"]]
    assert ours[1][1] == "solo piano performance: Sonata"
    assert ours[2][1] == "solo piano performance"
    assert [ours[i] for i in (0, 3, 4)] == [io["maestro"][i] for i in (0, 3, 4)]
    rows = list(maestro_rows(root / "maestro"))
    assert {(row.licence, row.source) for row in rows} == {("CC BY-NC-SA 4.0", "maestro-v3.0.0")}


def test_a_limit_counts_the_rows_that_are_kept(tmp_path: Path) -> None:
    (tmp_path / "2004").mkdir()
    (tmp_path / "2004" / "b.wav").touch()
    table = "canonical_composer,canonical_title,audio_filename\nA,X,2004/none.wav\nB,Y,2004/b.wav\n"
    (tmp_path / "maestro-v2.0.0.csv").write_text(table)
    assert [row.caption for row in maestro_rows(tmp_path, limit=1)] == ["solo piano performance: Y by B"]
    assert list(maestro_rows(tmp_path, limit=1, legacy=True)) == []
    assert list(maestro_rows(tmp_path, limit=0)) == []


def test_a_file_of_the_same_year_comes_first(tmp_path: Path) -> None:
    for year in ("2004", "2011"):
        (tmp_path / "moved" / year).mkdir(parents=True)
        (tmp_path / "moved" / year / "a.wav").touch()
    (tmp_path / "maestro-v3.0.0.csv").write_text("audio_filename\n2011/a.wav\n")
    (row,) = maestro_rows(tmp_path)
    assert row.path == "moved/2011/a.wav"


def test_urmp_as_the_original(golden: Any) -> None:
    io = read_io(golden, "text_rules")
    assert io["urmp_instruments"] == INSTRUMENTS
    for name, caption in io["urmp"].items():
        assert urmp_caption(Path(name).stem, legacy=True) == caption


@pytest.mark.parametrize(
    ("stem", "caption"),
    [
        ("AuMix_01_Jupiter_vn_vc", "violin and cello duet in a chamber hall"),
        (
            "AuMix_12_Spring_vn_vn_va_vc",
            "violin, violin, viola, cello ensemble performance in a chamber hall",
        ),
        ("AuMix_99_Solo_tba", "solo tuba performance in a chamber hall"),
        ("AuMix_07_Sax", "classical chamber ensemble recording"),  # a title, though it is in the table
        ("AuMix_03_Two_Words_fl", "solo flute performance in a chamber hall"),
        ("foo", "classical chamber ensemble recording"),
    ],
)
def test_the_title_of_a_piece_is_no_instrument(stem: str, caption: str) -> None:
    assert urmp_caption(stem) == caption


def test_urmp_is_found_flat_and_in_folders(tmp_path: Path) -> None:
    for name in ("AuMix_02_B_fl.wav", "01_A_vn_vn/AuMix_01_A_vn_vn.wav", "01_A_vn_vn/AuSep_1_vn_01_A.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    rows = list(urmp_rows(tmp_path))
    assert [row.path for row in rows] == ["01_A_vn_vn/AuMix_01_A_vn_vn.wav", "AuMix_02_B_fl.wav"]
    assert rows[0].labels == ("violin",)
    assert [row.licence for row in rows] == ["unknown"] * 2


def test_fsd50k_as_the_original_and_with_names_that_are_numbers(tree: Any) -> None:
    root, io = tree
    fsd = root / "fsd"
    assert captions("fsd", fsd50k_rows(fsd, legacy=True)) == io["fsd50k"]["fname_with_extension"]
    ours = captions("fsd", fsd50k_rows(fsd))
    assert ours[1][1] == "environmental sound: Acoustic guitar, Music"
    table = fsd / "FSD50K.ground_truth" / "dev.csv"
    table.write_text(table.read_text().replace(".wav", ""))
    (fsd / "FSD50K.ground_truth" / "eval.csv").write_text("fname,labels,mids\n12,,\n")
    assert captions("fsd", fsd50k_rows(fsd, legacy=True)) == io["fsd50k"]["fname_without_extension"] == []
    assert captions("fsd", fsd50k_rows(fsd)) == ours
    assert [row.path for row in fsd50k_rows(fsd, limit=2)] == [ours[i][0][4:] for i in (0, 1)]


def test_a_vocabulary_with_a_header(tree: Any) -> None:
    root, _ = tree
    before = captions("fsd", fsd50k_rows(root / "fsd"))
    file = root / "fsd" / "FSD50K.ground_truth" / "vocabulary.csv"
    rows = [line.split(",") for line in file.read_text().splitlines()]
    file.write_text("\n".join(["mid,display_name", *(f"{mid},{name}" for _, name, mid in rows)]))
    assert captions("fsd", fsd50k_rows(root / "fsd")) == before
    file.write_text("0,Acoustic_guitar\n")
    with pytest.raises(FormatError, match="too short"):
        list(fsd50k_rows(root / "fsd"))


def test_the_licence_of_each_clip_of_fsd50k(tree: Any) -> None:
    root, _ = tree
    info = {
        "10": {
            "title": "A guitar",
            "uploader": "ann",
            "license": "http://creativecommons.org/licenses/by-nc/3.0/",
        }
    }
    folder = root / "fsd" / "FSD50K.metadata"
    folder.mkdir()
    (folder / "dev_clips_info_FSD50K.json").write_text(json.dumps(info))
    rows = list(fsd50k_rows(root / "fsd"))
    assert [row.licence for row in rows] == ["CC BY-NC 3.0", "unknown", "unknown"]
    assert rows[0].source == "FSD50K dev 10: A guitar by ann"
    (folder / "dev_clips_info_FSD50K.json").write_text("[]")
    with pytest.raises(FormatError, match="not a table of clips"):
        list(fsd50k_rows(root / "fsd"))


def test_labels_and_splits(golden: Any) -> None:
    for cell, labels in read_io(golden, "text_rules")["labels"].items():
        assert list(parse_labels(cell)) == labels
    assert split_of(Path("/data/dev/eval.csv")) == "eval"
    assert split_of(Path("/data/dev/eval.csv"), legacy=True) == "dev"
    assert split_of(Path("/data/other.csv")) is None


def test_pairs_of_all_sets_name_each_file_once(tree: Any) -> None:
    root, _ = tree
    (root / "urmp").mkdir()
    (root / "urmp" / "AuMix_01_A,_B_vn.wav").touch()
    sets = {
        "maestro": DataSet(root / "maestro"),
        "urmp": DataSet(root / "urmp"),
        "fsd50k": DataSet(root / "fsd", limit=1),
    }
    pairs = collect_pairs(**sets)
    # The tables give the one file a.wav for two rows; the last caption counts.
    assert (
        len({path for path, _ in pairs})
        == len(pairs)
        == 5
        + 1
        + 1
        - (
            sum(1 for _ in maestro_rows(root / "maestro"))
            - len({row.path for row in maestro_rows(root / "maestro")})
        )
    )
    write_pairs(root / "pairs.csv", pairs)
    with (root / "pairs.csv").open(newline="") as file:
        table = list(csv.reader(file))
    assert table[0] == ["audio_path", "text"]
    assert table[1:] == [[str(path), row.caption] for path, row in pairs]
    assert all(Path(path).is_file() for path, _ in table[1:])
    mixed = [collect_pairs(**sets, shuffle_seed=seed) for seed in (1, 1, 2)]
    assert mixed[0] == mixed[1] != mixed[2]
    assert sorted(map(str, mixed[0])) == sorted(map(str, pairs))
    assert all((root / row.path).is_file() for row in rows_below(root, pairs))


def test_folders_that_are_no_data_set(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no data set"):
        collect_pairs()
    for rows in (maestro_rows, fsd50k_rows):
        with pytest.raises(InputError, match="needed: the folder of"):
            list(rows(tmp_path))
    with pytest.raises(InputError, match="is not a folder"):
        list(urmp_rows(tmp_path / "none"))
    (tmp_path / "dev.csv").write_text("name,labels\n1,piano\n")
    with pytest.raises(FormatError, match="no column fname"):
        list(fsd50k_rows(tmp_path))
    (tmp_path / "dev.csv").write_bytes(b"fname,labels\n\xff,piano\n")
    with pytest.raises(InputError, match="UTF-8"):
        list(fsd50k_rows(tmp_path))
