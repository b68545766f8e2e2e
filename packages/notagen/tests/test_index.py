"""Index files: ours and those of the original."""

import json

import pytest

from notagen.training.index import Entry, Index, write_index
from pentatonic.errors import FormatError, InputError


def write_piece(folder, name="song"):
    for key in ("G", "C"):
        (folder / key).mkdir(parents=True, exist_ok=True)
        (folder / key / f"{name}_{key}.abc").write_text(f"K:{key}\n[V:1]c8|]\n")


def test_what_is_written_is_read(tmp_path):
    write_piece(tmp_path / "augmented")
    entries = [
        Entry("augmented/song", "Emin", ("Baroque", "Bach, Johann Sebastian", "Choral"), "bwv1"),
        Entry("augmented/song", "C"),
    ]
    write_index(tmp_path / "all.jsonl", entries)
    index = Index(tmp_path / "all.jsonl")
    assert index.entries == entries and len(index) == 2
    # E minor has the signature of G.
    assert index.read(0) == "%Baroque\n%Bach, Johann Sebastian\n%Choral\nK:G\n[V:1]c8|]\n"
    assert index.read(1, "G") == "K:G\n[V:1]c8|]\n"
    assert (tmp_path / "all.jsonl").read_text().splitlines()[1] == '{"path": "augmented/song", "key": "C"}'


def test_the_originals_index_is_relative_to_the_working_folder_or_absolute(tmp_path, monkeypatch):
    write_piece(tmp_path / "data" / "augmented")
    (tmp_path / "elsewhere").mkdir()
    file = tmp_path / "elsewhere" / "train.jsonl"
    lines = [
        {"path": "data/augmented/song", "key": "G"},
        {"path": f"{tmp_path}/data/augmented/song", "key": "G"},
    ]
    file.write_text("".join(json.dumps(line) + "\n\n" for line in lines))
    monkeypatch.chdir(tmp_path)
    index = Index(file)
    assert [index.read(i) for i in (0, 1)] == ["K:G\n[V:1]c8|]\n"] * 2


def test_a_prompt_may_be_one_text(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"path": "a/b", "key": "C", "prompt": "%Folk\n%Anon\n%Flute\n"}))
    assert Index(file).entries[0].prompt_text == "%Folk\n%Anon\n%Flute\n"


@pytest.mark.parametrize(
    "line", ["[]", "{", '{"path": "a"}', '{"path": 3, "key": "C"}', '{"path": "a", "key": "H"}', "[" * 99999]
)
def test_a_bad_line_is_named(tmp_path, line):
    file = tmp_path / "a.jsonl"
    file.write_text('{"path": "a", "key": "C"}\n' + line)
    with pytest.raises(FormatError, match=r"a\.jsonl:2"):
        Index(file)


def test_missing_files_are_input_errors(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        Index(tmp_path / "none.jsonl")
    (tmp_path / "a.jsonl").write_text("\n")
    with pytest.raises(InputError, match="no pieces"):
        Index(tmp_path / "a.jsonl")
    write_index(tmp_path / "a.jsonl", [Entry("x/y", "C")])
    with pytest.raises(InputError, match=r"y_C\.abc"):
        Index(tmp_path / "a.jsonl").read(0)
