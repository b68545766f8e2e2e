"""Listening tests: balance and blindness of the trials, the sheet, the answers and their analysis."""

from __future__ import annotations

import json
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import openpyxl
import pytest
import soundfile

from pentatonic.cli import BatchReport
from pentatonic.errors import FormatError, InputError, UsageError
from rc_audioldm.evaluation.listening.analysis import analyse_answers, binomial_share, krippendorff_alpha
from rc_audioldm.evaluation.listening.answers import Answer, read_answers
from rc_audioldm.evaluation.listening.kit import write_test
from rc_audioldm.evaluation.listening.sheet import COLUMNS, read_sheet, write_sheet
from rc_audioldm.evaluation.listening.trials import CRITERIA, Trial, plan_trials, read_key, write_key
from rc_audioldm.evaluation.loudness import true_peak
from rc_audioldm.evaluation.sounds import loudness_of, read_sound
from rc_audioldm.evaluation.systems import Item, Pairing, System, pair_items

RATE = 16_000


def made_up(folder: Path, count: int = 6) -> Pairing:
    names = ("zither", "zurna")
    return pair_items(
        [
            System(
                name,
                folder / name,
                tuple(Item(str(i), folder / name / f"{name}-{i}.wav", f'=1+{i} <b>"') for i in range(count)),
                True,
            )
            for name in names
        ]
    )


def test_sides_are_balanced_seeded_and_alike_for_all_criteria(tmp_path: Path) -> None:
    pairing = made_up(tmp_path, 30)
    trials = plan_trials(pairing, seed=3)
    assert len(trials) == len({trial.pair_id for trial in trials}) == 90
    assert Counter(trial.system_a for trial in trials) == {"zither": 45, "zurna": 45}
    assert Counter(trial.criterion for trial in trials) == dict.fromkeys(CRITERIA, 30)
    assert len({(trial.audio_a, trial.system_a, trial.item) for trial in trials}) == 30
    assert [trial.item for trial in trials[::3]] != [str(i) for i in range(30)]
    assert trials == plan_trials(pairing, seed=3) != plan_trials(pairing, seed=4)
    with pytest.raises(UsageError, match="allowed"):
        plan_trials(pairing, criteria=["a", "a"])
    with pytest.raises(UsageError, match="allowed"):
        plan_trials(pairing, criteria=["<b>"])
    with pytest.raises(InputError, match="two systems"):
        plan_trials(Pairing((), {"only": {}}, "id", ()))


def test_a_test_reveals_nothing_to_listeners_and_is_equally_loud(tmp_path: Path) -> None:
    pairing = made_up(tmp_path)
    rng = np.random.default_rng(0)
    for name, level, rate in (("zither", 0.3, RATE), ("zurna", 0.01, RATE // 2)):
        (tmp_path / name).mkdir()
        for i in range(6):
            soundfile.write(tmp_path / name / f"{name}-{i}.wav", level * rng.normal(size=rate), rate)
    soundfile.write(tmp_path / "zither" / "zither-0.wav", np.zeros(RATE), RATE)
    report = BatchReport()
    out = tmp_path / "out"
    out.mkdir()
    assert write_test(out, plan_trials(pairing), pairing, report, seed=0) == 15
    assert report.counts["failed"] == 1
    given = sorted(path for path in (out / "listeners").rglob("*") if path.is_file())
    assert len(given) == 12
    for path in given:
        if path.suffix == ".wav":
            sound = read_sound(path)
            samples, rate = sound.samples, sound.sample_rate
            assert rate == RATE
            assert loudness_of(samples, rate) == pytest.approx(-23, abs=0.05)
            assert true_peak(samples, rate) <= 0.9
        content = path.read_bytes()
        if path.suffix == ".xlsx":
            with zipfile.ZipFile(path) as archive:
                content = b"".join(map(archive.read, archive.namelist()))
        assert b"zither" not in content and b"zurna" not in content
    page = (out / "listeners" / "listening_test.html").read_text()
    assert "<b>" not in page and page.count("<fieldset") == 15
    key = read_key(out / "key.json")
    assert {trial.system_a for trial in key.values()} == {"zither", "zurna"}
    copy = out / "listeners" / next(iter(key.values())).audio_a
    assert copy.is_file()


def test_the_sheet_has_the_originals_layout_and_no_formulas(tmp_path: Path) -> None:
    path = tmp_path / "form.xlsx"
    trials = [Trial("000_naturalness", '=HYPERLINK("x")\x07', "naturalness", "audio/a.wav", "audio/b.wav")]
    write_sheet(path, trials)
    book = openpyxl.load_workbook(path)
    sheet = book["Audio Evaluation"]
    assert [cell.value for cell in sheet[1]] == list(COLUMNS)
    assert sheet["A1"].font.bold and sheet["A1"].fill.fgColor.rgb == "FFCCCCCC"
    assert sheet["B2"].data_type == "s" and str(sheet["B2"].value).startswith("=HYPERLINK")
    assert (sheet["C2"].value, sheet["F2"].value) == ("a.wav", None)
    assert sheet.column_dimensions["A"].width == len("000_naturalness") + 2
    sheet["F2"], sheet["G2"], sheet["I2"] = "b", 4.0, "Ann"
    book.save(path)
    answers, notes = read_answers([path])
    assert (answers, notes) == ([Answer("000_naturalness", "B", "Ann", 4)], [])


def test_sheets_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "form.xlsx"
    path.write_bytes(b"no zip")
    with pytest.raises(FormatError, match="zip"):
        read_sheet(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x", "x")
    with pytest.raises(FormatError, match="Excel"):
        read_sheet(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", bytes(70 << 20))
    with pytest.raises(FormatError, match="at most 67108864"):
        read_sheet(path)
    book = openpyxl.Workbook()
    book.save(path)
    with pytest.raises(FormatError, match="no sheet"):
        read_sheet(path)
    book.worksheets[0].title = "Audio Evaluation"
    book.save(path)
    with pytest.raises(FormatError, match="no column Pair ID"):
        read_sheet(path)


def test_answers_of_tables_and_what_does_not_count(tmp_path: Path) -> None:
    path = tmp_path / "Ann.csv"
    path.write_text(
        "\ufeffpair_id,criterion,preference,confidence,listener_id\n"
        '"1","c","A","9",""\n2,c,,3,Bob\n3,c,C,3,Bob\n4,c,a,3,Bob\n4,c,B,2,Bob\n,,,,\n',
        encoding="utf-8",
    )
    answers, notes = read_answers([path])
    assert answers == [Answer("1", "A", "Ann", None), Answer("4", "B", "Bob", 2)]
    assert [note.split(": ")[1][:20] for note in notes] == [
        "1 rows without an an",
        "1 rows with another ",
        "1 rows answered agai",
    ]
    path.write_text("a,b\n1,2\n", encoding="utf-8")
    with pytest.raises(FormatError, match="no column pair_id, preference"):
        read_answers([path])


def test_keys_are_read_back_also_the_originals(tmp_path: Path) -> None:
    path = tmp_path / "key.json"
    trials = plan_trials(made_up(tmp_path))
    write_key(path, trials, {"seed": 0})
    assert list(read_key(path).values()) == trials
    row = {
        "pair_id": "007_naturalness",
        "prompt": "bells",
        "audio_A": "/x/a.wav",
        "audio_B": "/x/b.wav",
        "criterion": "naturalness",
        "ground_truth": "A=AudioLDM2, B=AudioLDM1",
    }
    path.write_text(json.dumps([row]), encoding="utf-8")
    (found,) = read_key(path).values()
    assert (found.system_a, found.system_b, found.item) == ("AudioLDM2", "AudioLDM1", "007")
    for wrong in ([], {"trials": "x"}, [{**row, "ground_truth": "A"}], [row, row], [3]):
        path.write_text(json.dumps(wrong), encoding="utf-8")
        with pytest.raises(FormatError):
            read_key(path)


def test_preferences_follow_the_key_and_not_the_sides(tmp_path: Path) -> None:
    trials = {trial.pair_id: trial for trial in plan_trials(made_up(tmp_path, 20), criteria=["quality"])}
    answers = [
        Answer(name, "A" if trial.system_a == "zurna" else "B", listener, 4)
        for name, trial in trials.items()
        for listener in ("Ann", "Bob")
    ]
    result = analyse_answers(trials, [*answers, Answer("unknown", "A", "Ann")], resamples=50)
    (found,) = result.preferences
    assert (found.first, found.wins.count, found.wins.total, found.items) == ("zither", 0, 40, 20)
    assert found.p_holm == found.wins.p_value < 1e-9
    assert found.wins.share.high == pytest.approx(1 - 0.025 ** (1 / 40))
    assert (result.position.count, result.position.p_value) == (20, pytest.approx(1))
    assert result.listeners == {"Ann": (10, 20), "Bob": (10, 20)}
    assert (found.confidence, found.alpha) == (4, None)
    assert result.notes == ("1 answers are of no trial of the key",)
    always_a = [Answer(name, "A", "Ann") for name in trials]
    biased = analyse_answers(trials, always_a, resamples=50)
    assert biased.position.share.value == 1 and biased.position.p_value < 1e-4
    assert biased.preferences[0].wins.p_value == 1
    with pytest.raises(InputError, match="another test"):
        analyse_answers(trials, [Answer("x", "A", "Ann")])


def test_agreement_of_listeners() -> None:
    assert krippendorff_alpha([["a", "a"], ["b", "b", "b"]]) == 1
    # Krippendorff (2011), example A: nominal data of two observers and ten units.
    one, other = "0100000000", "1110010010"
    assert krippendorff_alpha(list(zip(one, other, strict=True))) == pytest.approx(0.095, abs=1e-3)
    assert krippendorff_alpha([["a"], ["b"]]) is None
    assert krippendorff_alpha([["a", "a"]]) is None


def test_shares_of_answers() -> None:
    found = binomial_share([True] * 8 + [False] * 2)
    assert found.p_value == pytest.approx(0.109375)
    assert (found.share.low, found.share.high) == pytest.approx((0.4439, 0.9748), abs=1e-4)
