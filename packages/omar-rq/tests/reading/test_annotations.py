"""Files of annotations, read back by other programs."""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from omar_rq.annotations.document import annotation_document, write_document
from omar_rq.annotations.events import Annotation, Beat, Beats, Highlight, Meter, Score, Span
from omar_rq.annotations.jams_files import write_jams
from omar_rq.annotations.lab import write_beats, write_lab
from omar_rq.annotations.picture import Envelope, write_picture
from pentatonic.errors import MissingExtra

BEATS = Beats(
    tuple(Beat(1.4 + 0.5 * i, i % 4 + 1, 120.0, 0.9) for i in range(100)),
    Meter(4, 4),
    120.0,
    0.9,
    0.8,
    0.1,
    0.0,
)
CHORDS = (Span(1.0, 21.5, "C:maj", 0.7), Span(21.5, 40.0, "A:min", 0.6), Span(40.0, 53.0, "N", 0.9))
FULL = Annotation(
    path="music/a $b$ <i>.wav",
    start=1.0,
    duration=52.0,
    beats=BEATS,
    chords=CHORDS,
    key=(Score("A minor", 0.6), Score("C major", 0.4)),
    keys=(Span(1.0, 30.0, "A minor", 0.6), Span(30.0, 53.0, "C major", 0.5)),
    segments=(Span(1.0, 20.0, "A", 0.8), Span(20.0, 53.0, "B")),
    highlight=Highlight(5.0, 35.0, 0.4),
    tags=(Score("pi$an$o", 0.9), Score("voice", 0.1)),
    notes=("pooling: mean",),
    probes={"beat": {"encoder": "tiny"}},
)
EMPTY = Annotation("a.wav", 0.0, 0.2, beats=Beats((), None, None, 0.0, 0.0, 0.0, 0.0), chords=())


def test_the_document_holds_all(tmp_path: Path) -> None:
    write_document(FULL, tmp_path / "a.json")
    document = json.loads((tmp_path / "a.json").read_text())
    assert document == json.loads(json.dumps(annotation_document(FULL)))
    assert (document["format"], document["version"]) == ("omar-rq annotation", 1)
    assert document["beats"]["meter"] == "4/4" and len(document["beats"]["beats"]) == 100
    assert document["beats"]["beats"][1] == {"time": 1.9, "position": 2, "bpm": 120.0, "confidence": 0.9}
    assert document["chords"][1] == {"start": 21.5, "end": 40.0, "label": "A:min", "confidence": 0.6}
    assert document["segments"][1]["confidence"] is None
    assert document["highlight"] == {"start": 5.0, "end": 35.0, "likeness": 0.4}


def test_parts_that_were_not_read_are_absent() -> None:
    document = json.loads(json.dumps(annotation_document(EMPTY)))
    assert (
        document["chords"] == [] and document["beats"]["beats"] == [] and document["beats"]["meter"] is None
    )
    assert not {"key", "keys", "segments", "highlight", "tags"} & document.keys()


def test_lab_and_beats_are_read_by_mir_eval(tmp_path: Path) -> None:
    io = pytest.importorskip("mir_eval").io
    write_lab(CHORDS, tmp_path / "a.lab")
    intervals, labels = io.load_labeled_intervals(str(tmp_path / "a.lab"))
    assert np.allclose(intervals, [[c.start, c.end] for c in CHORDS]) and labels == [c.label for c in CHORDS]
    import mir_eval

    mir_eval.chord.validate(labels, labels)
    write_lab((Span(0, 1, "A minor"),), tmp_path / "key.lab")
    assert io.load_labeled_intervals(str(tmp_path / "key.lab"))[1] == ["A_minor"]
    write_beats(BEATS, tmp_path / "a.beats")
    times, positions = io.load_labeled_events(str(tmp_path / "a.beats"))
    assert np.allclose(times, [beat.time for beat in BEATS.beats])
    assert positions[:5] == ["1", "2", "3", "4", "1"]


def test_jams_are_valid(tmp_path: Path) -> None:
    jams = pytest.importorskip("jams")
    write_jams(FULL, tmp_path / "a.jams")
    read = jams.load(str(tmp_path / "a.jams"))
    assert read.validate(strict=True)
    found = {annotation.namespace: annotation for annotation in read.annotations}
    assert list(found) == ["beat", "tempo", "chord", "key_mode", "segment_open", "tag_open"]
    assert found["beat"].data[4].value == 1 and found["beat"].data[4].time == pytest.approx(3.4)
    assert [each.value for each in found["chord"].data] == ["C:maj", "A:min", "N"]
    assert [each.value for each in found["key_mode"].data] == ["A:minor", "C:major"]
    assert found["segment_open"].data[1].duration == pytest.approx(33)
    assert read.file_metadata.duration == 53
    write_jams(replace(FULL, keys=None), tmp_path / "b.jams")
    (key,) = jams.load(str(tmp_path / "b.jams")).search(namespace="key_mode")[0].data
    assert (key.value, key.time, key.duration) == ("A:minor", 1.0, 52.0)
    write_jams(EMPTY, tmp_path / "c.jams")
    assert [each.namespace for each in jams.load(str(tmp_path / "c.jams")).annotations] == ["beat", "chord"]


def envelope() -> Envelope:
    made = Envelope(1000)
    assert len(list(made.passing(torch.linspace(-0.5, 0.5, 52_000).split(777)))) == 67
    return made


def test_pictures(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    for name in ("a.svg", "b.svg"):
        write_picture(FULL, tmp_path / name, envelope())
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    texts = {
        "".join(each.itertext()) for each in ET.parse(tmp_path / "a.svg").iter() if each.tag.endswith("text")
    }
    assert {"C", "Am", "N", "A minor", "A", "B", "pi$an$o", "chords", "key", "sections", "tempo"} <= texts
    assert any(text.startswith("a $b$ <i>.wav") for text in texts)
    write_picture(EMPTY, tmp_path / "c.png")
    assert (tmp_path / "c.png").read_bytes()[1:4] == b"PNG"


def test_the_envelope_is_bounded() -> None:
    times, values = envelope().points()
    assert len(times) == 5200 and times[1] == pytest.approx(0.01)
    assert values[0, 0] == pytest.approx(-0.5) and values[-1, 1] == pytest.approx(0.5, abs=1e-3)
    long = Envelope(100)
    for _ in long.passing([torch.ones(50_000), torch.zeros(100_000), -torch.ones(50_000)]):
        pass
    times, values = long.points()
    assert len(times) <= 65536 and times[-1] == pytest.approx(2000, rel=0.01)
    assert values[0, 1] == 1 and values[len(values) // 2, 1] == 0 and values[-1, 0] == -1


@pytest.mark.parametrize(
    ("module", "extra"), [("jams", r"omar-rq\[jams\]"), ("matplotlib.figure", r"omar-rq\[report\]")]
)
def test_absent_extras_are_named(
    module: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=extra):
        (write_jams if module == "jams" else write_picture)(FULL, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())
