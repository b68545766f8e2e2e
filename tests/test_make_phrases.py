"""The phrases that the small model of rc-audioldm is trained on: captions that are true, and splits that are apart."""

from __future__ import annotations

import make_phrases
import pytest

INSTRUMENTS = make_phrases.INSTRUMENTS
PITCHED = [each for each in INSTRUMENTS if each.label != make_phrases.DRUMS]


def clips(instrument, count: int = 200):
    return [make_phrases.draw_clip(instrument, instrument.programs[0], number, 0) for number in range(count)]


@pytest.mark.parametrize("instrument", INSTRUMENTS, ids=lambda each: each.label)
def test_captions_name_what_is_true_of_the_clip(instrument) -> None:
    words = {word: label for label, forms in make_phrases.WORDS.items() for word in forms}
    for clip in clips(instrument, 60):
        assert len(clip.captions) == 6
        for caption in clip.captions:
            assert set(caption["labels"]) <= set(clip.labels)
            # Every word of the captions that stands for a label stands for one that is named.
            text = caption["text"]
            for name in sorted(instrument.names, key=len, reverse=True):
                text = text.replace(name, "")
            text = text.replace("sustained note", "note")
            said = {words[word] for word in text.replace(",", "").split() if word in words}
            assert said <= set(caption["labels"]), caption
            assert any(name in caption["text"] for name in instrument.names)
            assert "  " not in caption["text"] and " a a" not in caption["text"]


@pytest.mark.parametrize("instrument", PITCHED, ids=lambda each: each.label)
def test_notes_are_of_the_register_and_end_in_time(instrument) -> None:
    middles: dict[str, list[float]] = {register: [] for register in make_phrases.REGISTERS}
    for clip in clips(instrument):
        assert all(start >= 0 and start + length <= make_phrases.CLIP_S for start, length, _ in clip.notes)
        pitches = [pitch for _, _, pitch in clip.notes]
        assert instrument.low - 4 <= min(pitches) and max(pitches) <= instrument.high + 8
        register = next(label for label in clip.labels if label in middles)
        middles[register].append(sum(pitches) / len(pitches))
        if "rising" in clip.labels:
            assert pitches == sorted(pitches)
        if "falling" in clip.labels:
            assert pitches == sorted(pitches, reverse=True)
        if clip.labels[1] == "note":
            assert make_phrases.note_name(pitches[0]) in clip.labels
    means = [sum(values) / len(values) for values in middles.values()]
    assert means[0] + 3 < means[1] < means[2] - 3


@pytest.mark.parametrize("instrument", PITCHED, ids=lambda each: each.label)
def test_single_notes_of_the_splits_have_other_pitches(instrument) -> None:
    found: dict[str, set[int]] = {"train": set(), "heldout": set()}
    for clip in clips(instrument, 400):
        if clip.labels[1] == "note":
            found[clip.split].add(clip.notes[0][2])
    assert found["train"] and found["heldout"]
    assert not found["train"] & found["heldout"]


def test_a_clip_follows_from_its_number_and_the_seed() -> None:
    first, *_ = INSTRUMENTS
    assert make_phrases.draw_clip(first, 0, 7, 0) == make_phrases.draw_clip(first, 0, 7, 0)
    assert make_phrases.draw_clip(first, 0, 7, 0) != make_phrases.draw_clip(first, 0, 7, 1)
    other = make_phrases.draw_clip(first, first.others[0], 7, 0)
    assert other.split == "other-preset"


def test_names_of_notes() -> None:
    assert [make_phrases.note_name(pitch) for pitch in (60, 61, 69, 36)] == ["C4", "C#4", "A4", "C2"]
