"""The REMI tokens of the original, by MidiTok. Runs in child processes: its parser of MIDI is native code."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pentatonic.child_process import Message
from pentatonic.errors import BackendUnavailable, InputError, MissingExtra
from pentatonic.untrusted.files import regular_file_size
from rc_audioldm.data.midi.notes import NOTE, Notes

N_TOKENS = 626
BAR = "Bar_None"
_MOST_MIDI_BYTES = 64 << 20
_TICKS_PER_QUARTER = 480
_TICKS_PER_S = 2 * _TICKS_PER_QUARTER  # at 120 quarters a minute, the tempo of a file without one
_STATE_KINDS = ("TimeSig", "Tempo")


def check_installed() -> None:
    """Fail before any process is started.

    Raises:
        MissingExtra: MidiTok or symusic is not installed.
    """
    if find_spec("miditok") is None or find_spec("symusic") is None:
        raise MissingExtra("MIDI", "rc-audioldm[midi]")


@cache
def make_tokenizer() -> Any:
    """Return the MidiTok tokenizer of the original: REMI with 626 tokens.

    Raises:
        MissingExtra: MidiTok is not installed.
        BackendUnavailable: This version of MidiTok makes another vocabulary.
    """
    check_installed()
    from miditok import REMI, TokenizerConfig

    tokenizer = REMI(
        TokenizerConfig(
            num_velocities=127,
            special_tokens=["PAD", "BOS", "EOS", "MASK"],
            num_tempos=128,
            use_tempos=True,
            use_time_signatures=True,
            use_chords=True,
            use_rests=True,
            use_programs=False,
            use_sustain_pedals=False,
            use_bar_end_tokens=False,
            add_trailing_bars=False,
        )
    )
    if len(tokenizer) != N_TOKENS or BAR not in tokenizer.vocab:
        raise BackendUnavailable(
            f"MidiTok makes {len(tokenizer)} tokens; needed: a version that makes {N_TOKENS}"
        )
    return tokenizer


def tokenise_answer(request: Message) -> Message:
    """Tokenise the file that the request names, in the child.

    The answer has the ``lengths`` of the sequences and the id of the ``bar`` token as its value, and all int32 ids as
    data.

    Raises:
        InputError: It is not a MIDI file with notes.
    """
    sequences = tokenise_file(Path(request.value))
    about = {"lengths": [len(sequence) for sequence in sequences], "bar": int(make_tokenizer().vocab[BAR])}
    return Message(about, np.concatenate(sequences).astype("<i4").tobytes())


def tokenise_file(path: Path) -> list[NDArray[np.int32]]:
    """Return the tokens of a MIDI file, one sequence for each track that has notes.

    Raises:
        InputError: It is not a MIDI file with notes, or too large.
        MissingExtra: MidiTok is not installed.
    """
    tokenizer = make_tokenizer()
    import symusic

    if regular_file_size(path, error=InputError) > _MOST_MIDI_BYTES:
        raise InputError(f"{path}: larger than {_MOST_MIDI_BYTES} bytes, the largest allowed")
    try:
        sequences = tokenizer.encode(symusic.Score.from_file(str(path)))
    except Exception as error:  # parsers of hostile files raise errors of any kind
        raise InputError(
            f"{path}: not a MIDI file that can be read ({type(error).__name__}: {error})"
        ) from error
    found = [np.asarray(sequence.ids, np.int32) for sequence in sequences]
    found = [ids for ids in found if len(ids)]
    if not found:
        raise InputError(f"{path}: no notes")
    return found


def with_state(sequence: NDArray[np.integer], start: int, stop: int) -> NDArray[np.int32]:
    """Return a chunk of a sequence, with the bar, the time signature and the tempo that hold where it begins.

    Without them it would be played at the default tempo of 120 quarters a minute, in bars of four quarters.

    Args:
        sequence: ``(n,)`` tokens of a track.
        start: First token of the chunk.
        stop: The token behind its last one.
    """
    vocabulary = make_tokenizer().vocab
    chunk = sequence[start:stop].astype(np.int32)
    if start == 0:
        return chunk
    bar = vocabulary[BAR]
    states = [_last(sequence[:start], _ids_of(kind)) for kind in _STATE_KINDS]
    time_signature, tempo = states
    head = [bar] if time_signature is None else [bar, time_signature]
    rest = chunk[1:] if len(chunk) and chunk[0] == bar else chunk
    if time_signature is not None and len(rest) and rest[0] in _ids_of("TimeSig"):
        head = [bar]  # the chunk says it itself
    if tempo is not None:
        position = vocabulary["Position_0"]
        at = len(rest) and rest[0] in _ids_of("TimeSig")
        return np.concatenate([head, rest[: int(at)], [position, tempo], rest[int(at) :]]).astype(np.int32)
    return np.concatenate([head, rest]).astype(np.int32)


@cache
def _ids_of(kind: str) -> frozenset[int]:
    return frozenset(
        number for name, number in make_tokenizer().vocab.items() if name.partition("_")[0] == kind
    )


def _last(ids: NDArray[np.integer], wanted: frozenset[int]) -> int | None:
    places = np.flatnonzero(np.isin(ids, list(wanted)))
    return int(ids[places[-1]]) if len(places) else None


def decode_notes(ids: Sequence[int] | NDArray[np.integer]) -> Notes:
    """Return the notes of a sequence of tokens, in seconds.

    Raises:
        InputError: An id is outside of the vocabulary, or the tokens cannot be decoded.
    """
    tokens = [int(number) for number in ids]
    if not all(0 <= number < N_TOKENS for number in tokens):
        raise InputError(f"there are tokens outside of 0 to {N_TOKENS - 1}")
    try:
        score = make_tokenizer().decode([tokens]).to("second")
    except Exception as error:  # as above
        raise InputError(f"the tokens cannot be decoded ({type(error).__name__}: {error})") from error
    notes = [
        (note.time, note.duration, note.pitch, note.velocity, track.program, track.is_drum)
        for track in score.tracks
        for note in track.notes
    ]
    found = np.array(notes, NOTE)
    return found[np.argsort(found["start_s"], kind="stable")]


def midi_bytes(notes: Notes) -> bytes:
    """Return notes as a MIDI file."""
    import symusic

    score: Any = symusic.Score(_TICKS_PER_QUARTER)
    for program, is_drum in sorted({(int(n["program"]), bool(n["is_drum"])) for n in notes}):
        track: Any = symusic.Track(program=program, is_drum=is_drum)
        for note in notes[(notes["program"] == program) & (notes["is_drum"] == is_drum)]:
            ticks = [round(float(note[name]) * _TICKS_PER_S) for name in ("start_s", "duration_s")]
            track.notes.append(
                symusic.Note(ticks[0], max(1, ticks[1]), int(note["pitch"]), int(note["velocity"]))
            )
        score.tracks.append(track)
    return score.dumps_midi()
