"""Audits: the original's numbers and verdicts, ours, files that cannot be read, and pruning."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from pentatonic.errors import ConfigError, FormatError, InputError
from rc_audioldm.data.audits.audit import audit_manifest, measure_file, read_audit
from rc_audioldm.data.audits.measures import DeepMeasures, FastMeasures, FastMeter, measure, measure_clip
from rc_audioldm.data.audits.prune import prune, prune_like_the_original
from rc_audioldm.data.audits.verdicts import AuditRow, Thresholds
from rc_audioldm.data.manifest import Manifest, ManifestRow, read_manifest

RATE = 48_000
TOLERANCE = 1e-5
FAST = {"rms": "rms_dbfs", "peak": "peak_dbfs", "zcr": "zcr"}
DEEP = {
    "spectral_centroid_mean": "centroid_hz",
    "spectral_flatness_mean": "flatness",
    "hf_ratio": "hf_ratio",
    "floor_db": "floor_db",
}


def compare(expected: dict[str, Any], fast: FastMeasures, deep: DeepMeasures | None) -> None:
    for name, own in FAST.items():
        assert getattr(fast, own) == pytest.approx(expected[name], rel=TOLERANCE, abs=1e-9), name
    if deep is not None:
        for name, own in DEEP.items():
            assert getattr(deep, own) == pytest.approx(expected[name], rel=TOLERANCE, abs=1e-9), name
        assert Thresholds().is_silent(fast) == expected["silent"]
        assert Thresholds().is_noisy(deep) == expected["noisy"]


@pytest.mark.filterwarnings("ignore:.*beyond full scale")  # in the clip of hiss
def test_the_audits_of_the_original(golden: Any, tmp_path: Path) -> None:
    case = golden("audit_edges")
    io = json.loads((case.folder / "io.json").read_text())
    assert len(io) == 6
    for name, expected in io.items():
        file = tmp_path / f"{name}.wav"
        soundfile.write(file, case.tensors[name].numpy(), RATE, subtype="FLOAT")
        fast, deep = measure_file(file, legacy_floor=True)
        assert deep is not None
        compare(expected["fast"], fast, None)
        compare(expected["plus"], fast, deep)


def test_the_audits_of_the_original_on_a_clip(golden: Any) -> None:
    folder = golden("audio_metrics").folder
    io = json.loads((folder / "io.json").read_text())
    fast, deep = measure_file(folder / "clip.wav", legacy_floor=True)
    assert deep is not None
    compare(io["audit_fast"], fast, None)
    compare(io["audit_plus"], fast, deep)
    ours = measure_file(folder / "clip.wav")[1]
    assert ours is not None
    assert ours.floor_db == pytest.approx(deep.floor_db - 20 * np.log10(np.hanning(2048).sum()), abs=1e-6)
    assert not Thresholds().is_noisy(ours)  # it is clean; the original's floor says otherwise


def test_blocks_of_any_length_give_the_same_numbers() -> None:
    samples = np.random.default_rng(0).normal(0, 0.1, 30_000)
    whole = measure_clip(samples, RATE)
    for size in (1000, 2048, 7777):
        parts = measure(np.array_split(samples, range(size, len(samples), size)), RATE)
        for a, b in zip(whole, parts, strict=True):
            assert a is not None and b is not None
            assert list(vars(a).values()) == pytest.approx(list(vars(b).values()), rel=1e-12)


def test_level_and_spectrum_are_those_of_the_signal() -> None:
    rng = np.random.default_rng(0)
    fast, deep = measure_clip(rng.normal(0, 0.1, 5 * RATE), RATE)
    assert deep is not None
    assert fast.rms_dbfs == pytest.approx(-20, abs=0.1)
    assert deep.quiet_rms_dbfs == pytest.approx(-20, abs=0.5)
    assert deep.floor_db == pytest.approx(-20 - 31.4, abs=0.5)
    assert deep.hf_ratio == pytest.approx(2 / 3, abs=0.01)
    assert Thresholds().is_noisy(deep)
    times = np.arange(2 * RATE) / RATE
    chord = sum(0.1 * np.sin(2 * np.pi * f * times) for f in (220, 277, 330, 440, 554, 660))
    fast, deep = measure_clip(np.asarray(chord), RATE)
    assert deep is not None
    assert not Thresholds().is_noisy(deep)
    assert not Thresholds().is_suspect(fast)


def test_digital_silence_is_silent_and_not_noisy() -> None:
    fast, deep = measure_clip(np.zeros(RATE), RATE)
    assert deep is not None
    assert (deep.flatness, deep.hf_ratio) == (0, 0)
    assert not Thresholds().is_noisy(deep)
    assert AuditRow("a", "a", fast, deep).faults(Thresholds()) == ("silent",)
    assert FastMeter(RATE).result().rms_dbfs == -240


@pytest.mark.parametrize(
    ("rms", "peak", "zcr", "suspect"),
    [
        (-11.9, -6, 0.18, True),
        (-11.9, -6, 0.17, False),
        (-12.0, -6, 0.19, False),  # the middle rule asks for 0.20
        (-12.0, -6, 0.20, True),
        (-40.0, -6, 0.20, True),
        (-40.1, -6, 0.20, False),
        (-30.0, -1.0, 0.0, True),
        (-29.9, -1.0, 0.0, False),
        (-60.0, -1.0, 0.5, False),  # silent
    ],
)
def test_who_is_suspect(rms: float, peak: float, zcr: float, suspect: bool) -> None:
    assert Thresholds().is_suspect(FastMeasures(rms, peak, zcr, 1.0)) is suspect


@pytest.fixture
def clips(tmp_path: Path) -> Manifest:
    """Good, silent, noisy, suspect by its level alone, missing, damaged; two of the same name."""
    rng = np.random.default_rng(0)
    times = np.arange(RATE) / RATE
    signals = {
        "good/a.wav": 0.3 * np.sin(2 * np.pi * 440 * times),
        "silent/a.wav": np.zeros(RATE),
        "noise.wav": rng.normal(0, 0.1, RATE),
        "high.wav": 0.1 * np.sin(2 * np.pi * 6000 * times),
    }
    for name, samples in signals.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / name, samples, RATE)
    (tmp_path / "broken.wav").write_bytes(b"RIFF....WAVE")
    names = [*signals, "missing.wav", "broken.wav"]
    return Manifest(tuple(ManifestRow(f"id-{i}", name) for i, name in enumerate(names)), tmp_path)


def test_a_manifest_is_audited_in_its_order_and_pruned(clips: Manifest, tmp_path: Path) -> None:
    audit = audit_manifest(clips, workers=2)
    assert [row.id for row in audit.rows] == [row.id for row in clips]
    assert [row.faults(audit.thresholds) for row in audit.rows] == [
        (),
        ("silent",),
        ("noisy",),
        (),  # its spectrum was looked at, and is not that of noise
        ("unreadable",),
        ("unreadable",),
    ]
    assert [row.deep is not None for row in audit.rows] == [False, False, True, True, False, False]
    assert audit.counts == {"good": 2, "unreadable": 2, "silent": 1, "noisy": 1, "suspect": 0}
    assert audit.report.exit_code == 3
    assert audit.rows[4].error == "AudioFileNotFound"
    assert str(tmp_path) not in audit.rows[5].reason
    for row in audit.rows[:4]:
        fast, _ = measure_file(clips.root / row.path, deep="none")
        assert row.fast == fast

    audit.write(tmp_path / "audit.json")
    again = read_audit(tmp_path / "audit.json")
    assert (again.rows, again.thresholds) == (audit.rows, audit.thresholds)

    pruned = prune(clips.rows, again.rows)
    assert [row.path for row in pruned.kept] == ["good/a.wav", "high.wav"]  # not by the name a.wav
    assert pruned.counts == {
        "total_rows": 6,
        "kept": 2,
        "dropped": 4,
        "dropped_breakdown": {"noisy": 1, "silent": 1, "unreadable": 2},
    }
    pruned.write(tmp_path / "clean.jsonl", audit="audit.json")
    assert read_manifest(tmp_path / "clean.jsonl").rows == pruned.kept
    dropped = [json.loads(line) for line in (tmp_path / "clean.jsonl.dropped.jsonl").read_text().splitlines()]
    assert [row["drop_reason"] for row in dropped] == ["silent", "noisy", "unreadable", "unreadable"]
    assert json.loads((tmp_path / "clean.jsonl.stats.json").read_text())["dropped"] == 4


def test_rows_without_an_audit_and_ids_of_other_files(clips: Manifest) -> None:
    fast = FastMeasures(-20, -6, 0.05, 1)
    pruned = prune(clips.rows[:2], [AuditRow("id-0", "good/a.wav", fast)])
    assert [reasons for _, reasons in pruned.dropped] == [("not_audited",)]
    suspect = AuditRow("id-0", "good/a.wav", FastMeasures(-20, -6, 0.5, 1))
    assert prune(clips.rows[:1], [suspect]).counts["dropped_breakdown"] == {"suspect": 1}
    assert prune(clips.rows[:1], [suspect], Thresholds(zcr_mid=0.6)).kept
    with pytest.raises(InputError, match="audit it again"):
        prune(clips.rows[:1], [AuditRow("id-0", "other.wav", fast)])


def test_pruning_as_the_original(golden: Any) -> None:
    io = json.loads((golden("data_prep").folder / "io.json").read_text())
    expected = io["prune"]
    rows = [
        ManifestRow(str(row["id"]), row["path"].removeprefix("<root>/"))
        for row in io["curation"]["instrumental_relaxed"]
    ]
    pruned = prune_like_the_original(rows, expected["fast"], expected["plus"])
    assert list(pruned.kept) == expected["kept"] == []
    assert [(row.id, ",".join(reasons)) for row, reasons in pruned.dropped] == [
        (str(row["id"]), row["drop_reason"]) for row in expected["dropped"]
    ]
    breakdown = {name: n for name, n in expected["stats"]["dropped_breakdown"].items() if n}
    assert pruned.counts["dropped_breakdown"] == breakdown
    # A suspect without a deep audit, two reasons for one row, and a namesake in another folder.
    more = [ManifestRow("s", "x/s.wav"), ManifestRow("t", "y/s.wav"), ManifestRow("u", "u.wav")]
    found = prune_like_the_original(more, [{"file": "s.wav", "rms": -61}], suspects=["0000003__s.wav"])
    assert [reasons for _, reasons in found.dropped] == [("fast_silent", "missing_deep")] * 2
    assert [row.id for row in found.kept] == ["u"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[]", "not an audit of this command"),
        (
            '{"settings": {"thresholds": {"rms_silent": "low"}, "legacy_floor": false}, "rows": []}',
            "not an audit",
        ),
        ('{"settings": {"thresholds": {}, "legacy_floor": false}, "rows": [1]}', "row 1 is not a row"),
        ('{"settings": {"thresholds": {}, "legacy_floor": false}, "rows": [{"id": "a"}]}', "path is missing"),
        (
            '{"settings": {"thresholds": {}, "legacy_floor": false}, '
            '"rows": [{"id": "a", "path": "b", "fast": {"rms_dbfs": null}}]}',
            "row 1.fast",
        ),
    ],
)
def test_audits_of_strangers(tmp_path: Path, text: str, named: str) -> None:
    (tmp_path / "audit.json").write_text(text)
    with pytest.raises(FormatError, match=named):
        read_audit(tmp_path / "audit.json")
    with pytest.raises(ConfigError, match="zcr_mid is 2"):
        Thresholds(zcr_mid=2)
