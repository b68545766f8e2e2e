"""Lead sheets, checked by the rules that a reader of ABC has: bars add up, chords begin on beats."""

from __future__ import annotations

import re
from fractions import Fraction

import numpy as np
import pytest

from omar_rq.annotations.events import Beat, Beats, Meter, Score, Span
from omar_rq.reading.beats import tempo_curve
from omar_rq.reading.lead_sheet import chord_symbol, key_field, lead_sheet
from pentatonic.errors import InputError

_WORD = re.compile(r'\[([MQK]):([^\]]*)\]|"([^"]*)"|x(\d*)|(\|\]?)|\s+')


def beats_of(times: np.ndarray, positions: np.ndarray, meter: Meter) -> Beats:
    tempi = tempo_curve(times)
    rows = tuple(
        Beat(float(t), int(p), float(tempo), 0.9) for t, p, tempo in zip(times, positions, tempi, strict=True)
    )
    return Beats(rows, meter, float(np.median(tempi)), 0.9, 0.9, 0.0, 0.0)


def steady(count: int, meter: Meter = Meter(4, 4), first: int = 1, beat_s: float = 0.5) -> Beats:  # noqa: B008
    positions = (np.arange(count) + first - 1) % meter.beats + 1
    return beats_of(0.3 + beat_s * np.arange(count), positions, meter)


def chords_of(*labels: str, seconds: float = 1.0) -> list[Span]:
    return [Span(0.3 + seconds * i, 0.3 + seconds * (i + 1), label) for i, label in enumerate(labels)]


def check_bars(text: str) -> list[tuple[Fraction, Fraction]]:
    """Lengths of the bars in whole notes, each beside its meter; text that is not understood is an error."""
    lines = text.splitlines()
    head = {
        line[0]: line[2:] for line in lines[: next(i for i, x in enumerate(lines) if x.startswith("K:")) + 1]
    }
    unit, meter = Fraction(head["L"]), Fraction(head["M"])
    music = " ".join(
        line for line in lines[len(lines) - lines[::-1].index(f"K:{head['K']}") :] if line[:1] != "%"
    )
    bars, length, at = [], Fraction(0), 0
    while at < len(music):
        word = _WORD.match(music, at)
        assert word, f"not understood: {music[at : at + 20]!r}"
        at = word.end()
        if word[1] == "M":
            assert not length, "a meter changes at the start of a bar"
            meter = Fraction(word[2])
        elif word[4] is not None:
            length += unit * int(word[4] or 1)
        elif word[5]:
            bars.append((length, meter))
            length = Fraction(0)
    assert not length and music.rstrip().endswith("|]")
    for number, (length, wanted) in enumerate(bars):
        assert length == wanted or (number == 0 and length < wanted), (
            f"bar {number + 1}: {length} of {wanted}"
        )
    return bars


def test_bars_add_up() -> None:
    text = lead_sheet(steady(16), chords_of("C:maj", "A:min", "F:maj", "G:maj"), title="A song")
    assert check_bars(text) == [(1, 1)] * 4
    assert text.splitlines() == [
        "X:1",
        "T:A song",
        "% the key is not known",
        "L:1/4",
        "Q:1/4=120",
        "M:4/4",
        "K:C",
        "% bar 1, 0.30 s",
        '"C"x2 "Am"x2 | "F"x2 "G"x2 | x4 | x4 |]',
    ]


def test_pickup_and_last_bar() -> None:
    text = lead_sheet(steady(7, first=4), chords_of("C:maj"), title="t", key=[Score("G major", 0.9)])
    assert check_bars(text) == [(Fraction(1, 4), 1), (1, 1), (1, 1)]
    assert text.splitlines()[-1] == '"C"x | x4 | x4 |]' and "K:G\n" in text


@pytest.mark.parametrize("meter", [Meter(3, 4), Meter(6, 8), Meter(2, 2), Meter(5, 4), Meter(12, 8)])
def test_meters(meter: Meter) -> None:
    text = lead_sheet(steady(25, meter), chords_of("C:maj", "G:maj"), title="t")
    bars = check_bars(text)
    assert {length for length, _ in bars} == {Fraction(meter.beats, meter.unit)}
    assert f"M:{meter}\nK:" in text and f"Q:1/{meter.unit}=120" in text


def test_slips_and_pauses_have_bars_of_their_own() -> None:
    times = np.concatenate((np.arange(0, 5, 0.5), 20 + np.arange(0, 5, 0.5)))
    positions = np.concatenate((np.arange(10) % 4 + 1, np.arange(10) % 4 + 1))
    text = lead_sheet(beats_of(times, positions, Meter(4, 4)), chords_of("C:maj", seconds=30), title="t")
    assert check_bars(text) == [(1, 1), (1, 1), (Fraction(1, 2),) * 2, (1, 1), (1, 1), (1, 1)]
    assert '[M:2/4]x2 | [M:4/4]"^pause of 15.5 s"x4' in text


def test_changes_of_tempo_and_key() -> None:
    times = np.concatenate((np.arange(0, 16, 0.5), 16 + np.arange(0, 16, 0.8)))
    beats = beats_of(times, np.arange(len(times)) % 4 + 1, Meter(4, 4))
    keys = [Span(0, 20, "C major", 0.9), Span(20, 40, "A# minor", 0.8)]
    chords = [Span(0, 24, "C:maj"), Span(24, 40, "D#:min")]
    text = lead_sheet(beats, chords, title="t", keys=keys)
    check_bars(text)
    assert "Q:1/4=120\n" in text
    assert int(re.findall(r"\[Q:1/4=(\d+)\]", text)[-1]) == pytest.approx(75, rel=0.05)
    assert "[K:Bbm]" in text and '"Ebm"' in text


def test_random_beats_always_add_up() -> None:
    generator = np.random.default_rng(0)
    for _ in range(40):
        meter = Meter(int(generator.integers(1, 9)), int(generator.choice([4, 8])))
        count = int(generator.integers(2, 40))
        times = np.cumsum(generator.uniform(0.2, 2.0, count))
        positions = generator.integers(1, meter.beats + 1, count)
        labels = generator.choice(["C:maj", "F#:min", "N", "Bb:7"], count)
        chords = [Span(float(t), float(t) + 1.0, str(label)) for t, label in zip(times, labels, strict=True)]
        check_bars(lead_sheet(beats_of(times, positions, meter), chords, title="t"))


def test_a_title_of_a_stranger_stays_on_its_line() -> None:
    text = lead_sheet(steady(8), [], title="a\nK:D\n%%abc \\ 50% \u2028 b", notes=["x\ny"])
    assert text.splitlines()[1:3] == ["T:a K:D abc 50 b", "% x y"]
    assert "T:untitled" in lead_sheet(steady(8), [], title="\n")
    check_bars(text)


@pytest.mark.parametrize("count", [0, 1])
def test_without_beats_there_is_no_sheet(count: int) -> None:
    few = Beats(steady(4).beats[:count], Meter(4, 4) if count else None, None, 0, 0, 0, 0)
    with pytest.raises(InputError, match=f"{count} were found"):
        lead_sheet(few, [], title="t")


def test_spelling() -> None:
    spelled = {
        "C major": "C",
        "A# minor": "Bbm",
        "Db major": "Db",
        "D# minor": "D#m",
        "F# major": "F#",
        "G# major": "Ab",
    }
    assert {label: key_field(label) for label in spelled} == spelled
    assert key_field(None) == key_field("nothing") == "C"
    symbols = {"C:maj": "C", "A#:min": "Bbm", "G:7": "G7", "B:hdim7": "Bm7b5", "D:min7": "Dm7", "N": "N.C."}
    assert {label: chord_symbol(label, "F major") for label in symbols} == symbols
    assert chord_symbol("Bb:maj", "E major") == "A#" and chord_symbol("Bb:maj") == "A#"
