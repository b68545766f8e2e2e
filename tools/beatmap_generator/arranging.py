"""Themes to pieces: sections that rise and fall, drums, instruments, tempo."""

from __future__ import annotations

import random

from beatmap_generator.music import (
    CRASH,
    DRUMS,
    HARMONY,
    HAT,
    KICK,
    MELODY,
    SNARE,
    Note,
    Piece,
    Section,
    Theme,
)

# Intensities of the sections of a piece; 0 is a rest for a break.
_FORMS = (
    (0.4, 0.6, 1.0, 0.5, 0.7, 1.0),
    (0.3, 0.6, 0.7, 0.95, 0.0, 0.6, 1.0),
    (0.6, 0.9, 0.4, 0.7, 1.0, 0.5),
    (0.5, 0.7, 0.95, 0.0, 0.4, 0.7, 1.0),
)
_FAMILIES = {"piano": 6, "guitar": 4, "mallets": 3, "flutes": 2, "reeds": 2, "strings": 1, "brass": 1}
_SECTION_BEATS = 32
_REST_BEATS = 16
_MOST_SECONDS = 72.0


def arrange(theme: Theme, seed: str) -> Piece:
    """Make a piece of 75 seconds at most from a theme.

    Args:
        theme: The material; it is repeated through the sections.
        seed: Decides form, tempo, key and instruments.
    """
    from render_scores import FAMILIES

    rng = random.Random(f"piece/{seed}/{theme.name}")
    bpm = rng.uniform(72, 126) if theme.ternary else rng.choice((rng.uniform(90, 140), rng.uniform(140, 205)))
    beat_ms = round(60000 / round(bpm, rng.choice((0, 0, 0, 2))), 6)
    sections = _sections(theme, rng, beat_ms)
    tempo = [(0.0, beat_ms)]
    if rng.random() < 0.12:
        tempo.append(
            (rng.choice(sections[len(sections) // 2 :]).start, round(beat_ms / rng.uniform(1.05, 1.25), 6))
        )
    shift, four_on_floor = rng.randint(-3, 4), rng.random() < 0.4
    notes: list[Note] = []
    position = 0.0  # in the theme
    for section in sections:
        notes += _melody(theme, section, position, shift)
        notes += _drums(section, theme, rng, four_on_floor)
        if section.intensity:
            position = (position + section.end - section.start) % (theme.bars * theme.meter)
    families = rng.choices(list(_FAMILIES), list(_FAMILIES.values()), k=2)
    programs = (
        rng.choice(FAMILIES[families[0]]),
        rng.choice(FAMILIES[families[1]]),
        rng.choice((32, 33, 38)),
    )
    lead_in = float(rng.randint(400, 2500))
    return Piece(
        theme, tempo, lead_in, sections, sorted(notes, key=lambda n: (n.beat, n.voice, n.pitch)), programs
    )


def _sections(theme: Theme, rng: random.Random, beat_ms: float) -> list[Section]:
    whole = _SECTION_BEATS // theme.meter * theme.meter
    rest = _REST_BEATS // theme.meter * theme.meter
    most = rng.uniform(0.75, 1.0) * _MOST_SECONDS * 1000 / beat_ms
    sections: list[Section] = []
    beat, form = 0.0, rng.choice(_FORMS)
    for intensity in form * 2:
        end = beat + (whole if intensity else rest)
        if end > most and len(sections) >= 3:
            break
        sections.append(Section(beat, end, intensity))
        beat = end
    return sections[:-1] if sections[-1].intensity == 0 else sections


def _melody(theme: Theme, section: Section, position: float, shift: int) -> list[Note]:
    """The theme from a position on, with the voices and the loudness that the intensity asks for."""
    if section.intensity == 0:
        return []
    length = theme.bars * theme.meter
    loudness = 0.45 + 0.55 * section.intensity
    notes = []
    for turn in range(int((position + section.end - section.start) // length) + 1):
        for note in theme.notes:
            beat = section.start + note.beat + turn * length - position
            audible = note.voice == MELODY or section.intensity >= (0.3 if note.voice == HARMONY else 0.5)
            if not section.start <= beat < section.end or not audible:
                continue
            beats = min(note.beats, section.end - beat)
            notes.append(
                Note(beat, beats, _in_range(note.pitch + shift), note.loudness * loudness, note.voice)
            )
            if section.kiai and note.voice == MELODY and note.pitch + shift < 84:
                notes.append(
                    Note(beat, beats, _in_range(note.pitch + shift + 12), 0.5 * note.loudness, HARMONY)
                )
    return notes


def _in_range(pitch: int) -> int:
    return min(max(pitch, 28), 100)


def _drums(section: Section, theme: Theme, rng: random.Random, four_on_floor: bool) -> list[Note]:
    if section.intensity < 0.55:
        return []
    notes = [Note(section.start, 1.0, CRASH, 0.9, DRUMS)]
    divisions = 3 if theme.ternary else 2
    loudness = 0.5 + 0.5 * section.intensity
    for index in range(int(section.end - section.start)):
        beat, in_bar = section.start + index, index % theme.meter
        backbeat = in_bar % 2 == 1 if theme.meter != 3 else in_bar == 2
        if four_on_floor or in_bar == 0 or (in_bar == 2 and theme.meter == 4):
            notes.append(Note(beat, 0.2, KICK, loudness, DRUMS))
        if backbeat:
            notes.append(Note(beat, 0.2, SNARE, loudness, DRUMS))
        if section.kiai and not theme.ternary and in_bar == theme.meter - 2 and rng.random() < 0.5:
            notes.append(Note(beat + 0.75, 0.2, KICK, 0.8 * loudness, DRUMS))
        notes += [Note(beat + part / divisions, 0.1, HAT, 0.5, DRUMS) for part in range(divisions)]
        if beat >= section.end - 1:  # a fill into the next section
            fill = 2 * divisions
            notes += [
                Note(beat + part / fill, 0.1, SNARE, 0.5 + 0.4 * part / fill, DRUMS)
                for part in range(1, fill)
            ]
    return notes
