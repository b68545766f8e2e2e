"""Sound of notes by the program FluidSynth with a soundfont; no shell is involved."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pentatonic.errors import BackendUnavailable, InputError

PROGRAM = "fluidsynth"
# Where packages of Linux and macOS place a General MIDI soundfont.
_SOUNDFONTS = (
    "/usr/share/sounds/sf2/FluidR3_GM.sf2",
    "/usr/share/sounds/sf2/default-GM.sf2",
    "/usr/share/soundfonts/FluidR3_GM.sf2",
    "/usr/share/soundfonts/default.sf2",
    "/opt/homebrew/share/soundfonts/default.sf2",
)
_MOST_SAID = 300


def find_soundfont(wanted: Path | None = None) -> Path:
    """Return a soundfont: the one that is wanted, else one in a usual place.

    Raises:
        BackendUnavailable: There is none, or no program ``fluidsynth``.
    """
    if shutil.which(PROGRAM) is None:
        raise BackendUnavailable(
            f"the program {PROGRAM} is not installed; allowed without it: additive synthesis"
        )
    places = _SOUNDFONTS if wanted is None else (str(wanted),)
    found = next((Path(place) for place in places if Path(place).is_file()), None)
    if found is None:
        raise BackendUnavailable(f"no soundfont at {' or '.join(places)}; name one (.sf2)")
    return found


def render_fluidsynth(
    midi: bytes,
    soundfont: Path,
    sample_rate: int,
    *,
    gain: float,
    polyphony: int,
    effects: bool,
    timeout_s: float,
) -> NDArray[np.float32]:
    """Return the sound of a MIDI file, mixed to mono.

    Args:
        midi: The file.
        soundfont: The soundfont.
        sample_rate: In Hz, 8,000 to 96,000.
        gain: Of the synthesiser.
        polyphony: Most voices at once.
        effects: Reverb and chorus.
        timeout_s: When to give up.

    Returns:
        ``(n,)`` float32.

    Raises:
        InputError: FluidSynth fails, or takes too long.
    """
    import soundfile

    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "notes.mid"), Path(folder, "sound.wav")
        source.write_bytes(midi)
        switch = "1" if effects else "0"
        command = [
            # The empty file stands in for the user's own, which can run commands.
            *(PROGRAM, "-n", "-i", "-q", "-f", os.devnull),
            *("-F", str(target), "-T", "wav", "-O", "float", "-r", str(sample_rate)),
            *("-g", f"{gain:g}", "-R", switch, "-C", switch, "-o", f"synth.polyphony={polyphony}"),
            *(str(soundfont.absolute()), str(source)),
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise InputError(f"FluidSynth took longer than {timeout_s:g} s") from error
        if done.returncode or not target.is_file():
            said = done.stderr.decode(errors="replace").strip()[-_MOST_SAID:]
            raise InputError(f"FluidSynth failed (status {done.returncode}): {said}")
        samples, _ = soundfile.read(target, dtype="float32", always_2d=True)
    return samples.mean(axis=1, dtype=np.float64).astype(np.float32)
