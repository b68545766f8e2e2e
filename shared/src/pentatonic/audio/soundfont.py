"""Sound of MIDI by a SoundFont and the program FluidSynth, where it is installed; no shell is involved.

FluidSynth runs below a child process (:mod:`pentatonic.child_process`), with its limits of time and memory: a crafted
SoundFont or MIDI file costs one piece and not the run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pentatonic.child_process import ChildFailure, Message, run_in_child
from pentatonic.errors import BackendUnavailable, FormatError, InputError, UsageError

SAMPLE_RATES = range(8000, 96_001)
"""Sample rates of FluidSynth, in Hz."""

_PROGRAM = "fluidsynth"
# Where packages of Debian, Fedora, Arch and Homebrew place a SoundFont; complete General MIDI sets come first.
_FOLDERS = (
    "/usr/share/sounds/sf2",
    "/usr/share/sounds/sf3",
    "/usr/share/soundfonts",
    "/opt/homebrew/share/soundfonts",
    "/usr/local/share/soundfonts",
)
_NAMES = (
    "FluidR3_GM.sf2",
    "default-GM.sf2",
    "MuseScore_General.sf3",
    "default-GM.sf3",
    "default.sf2",
    "TimGM6mb.sf2",
)
# The small one that FluidSynth itself brings with Homebrew.
_BUNDLED = (
    "/opt/homebrew/share/fluid-synth/sf2/VintageDreamsWaves-v2.sf2",
    "/usr/local/share/fluid-synth/sf2/VintageDreamsWaves-v2.sf2",
)
_PLACES = (*(f"{folder}/{name}" for name in _NAMES for folder in _FOLDERS), *_BUNDLED)
_MEMORY_BYTES = 4 << 30
# Start of the child, and reading the sound.
_BEYOND_TIMEOUT_S = 60.0
_ERROR = "fluidsynth: error:"
_MOST_SAID = 300


def find_soundfont(wanted: Path | None = None) -> Path:
    """Return the absolute path of a SoundFont: the one that is wanted, else one in a usual place.

    Args:
        wanted: A file, ``.sf2`` or ``.sf3``.

    Raises:
        BackendUnavailable: There is none, or the program ``fluidsynth`` is not installed.
        FormatError: What is wanted is no SoundFont.
    """
    if shutil.which(_PROGRAM) is None:
        raise BackendUnavailable(
            f"the program {_PROGRAM} is not installed, which plays SoundFonts; Debian and Homebrew have it as "
            "fluidsynth and fluid-synth. Without it there is the built-in synthesiser"
        )
    places = _PLACES if wanted is None else (str(wanted),)
    found = next((Path(place) for place in places if Path(place).is_file()), None)
    if found is None:
        where = f"at {wanted}" if wanted is not None else f"in {', '.join(_FOLDERS)}"
        raise BackendUnavailable(f"no soundfont {where}; name a file (.sf2, .sf3)")
    _check_soundfont(found)
    return found.absolute()


def _check_soundfont(path: Path) -> None:
    """Refuse what is none: FluidSynth would play another SoundFont, and report success."""
    try:
        with path.open("rb") as file:
            head = file.read(12)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror or error}") from error
    if head[:4] != b"RIFF" or head[8:] != b"sfbk":
        raise FormatError("this is no SoundFont; allowed are .sf2 and .sf3", path=path)


def render_midi(
    midi: bytes,
    soundfont: Path,
    sample_rate: int,
    *,
    gain: float = 0.5,
    polyphony: int = 256,
    effects: bool = True,
    timeout_s: float = 120.0,
) -> NDArray[np.float32]:
    """Return the sound of a MIDI file, from its start to the end of its last notes.

    Args:
        midi: The content of the file.
        soundfont: From :func:`find_soundfont`.
        sample_rate: In Hz, of :data:`SAMPLE_RATES`.
        gain: Of the synthesiser, above 0 to 10; samples may exceed 1.
        polyphony: Most voices at once, 1 to 65,535.
        effects: Reverb and chorus.
        timeout_s: When to give up, in seconds.

    Returns:
        ``(2, n)`` float32: left and right.

    Raises:
        UsageError: The sample rate is out of range.
        InputError: FluidSynth cannot read the SoundFont or the MIDI file, crashes, or takes too long.
    """
    if sample_rate not in SAMPLE_RATES:
        raise UsageError(
            f"sample_rate is {sample_rate}; FluidSynth has {SAMPLE_RATES[0]} to {SAMPLE_RATES[-1]} Hz"
        )
    value = {
        "soundfont": str(soundfont.absolute()),
        "sample_rate": sample_rate,
        "gain": gain,
        "polyphony": polyphony,
        "effects": effects,
        "timeout_s": timeout_s,
    }
    seconds = timeout_s + _BEYOND_TIMEOUT_S
    try:
        found = run_in_child(
            f"{__name__}:answer", Message(value, midi), seconds=seconds, memory_bytes=_MEMORY_BYTES
        )
    except ChildFailure as failure:
        raise InputError(f"the process of FluidSynth {failure}") from failure
    return np.frombuffer(found.data, np.float32).reshape(-1, 2).T


def answer(request: Message) -> Message:
    """Render the MIDI file of a request, in the child: float32 samples, left and right in turn.

    Raises:
        InputError: As for :func:`render_midi`.
    """
    import soundfile

    value = request.value
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "notes.mid"), Path(folder, "sound.wav")
        source.write_bytes(request.data)
        switch = "1" if value["effects"] else "0"
        command = [
            # The empty file stands in for the user's own, which can run commands.
            *(_PROGRAM, "-n", "-i", "-q", "-f", os.devnull),
            *("-F", str(target), "-T", "wav", "-O", "float", "-r", str(value["sample_rate"])),
            *("-g", f"{value['gain']:g}", "-R", switch, "-C", switch),
            *("-o", f"synth.polyphony={value['polyphony']}"),
            *(value["soundfont"], str(source)),
        ]
        _run(command, value["timeout_s"])
        if not target.is_file():
            raise InputError("FluidSynth wrote no sound")
        samples, _ = soundfile.read(target, dtype="float32", always_2d=True)
    return Message(None, samples.tobytes())


def _run(command: list[str], timeout_s: float) -> None:
    try:
        done = subprocess.run(
            command, capture_output=True, stdin=subprocess.DEVNULL, timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise InputError(f"FluidSynth took longer than {timeout_s:g} s") from error
    except OSError as error:
        raise InputError(f"FluidSynth does not start: {error.strerror or error}") from error
    said = done.stderr.decode(errors="replace").strip()
    # Where it cannot load a SoundFont it writes silence, or plays another one, and reports success.
    errors = [line.removeprefix(_ERROR).strip() for line in said.splitlines() if line.startswith(_ERROR)]
    if done.returncode:
        raise InputError(f"FluidSynth failed (status {done.returncode}): {said[-_MOST_SAID:]}")
    if errors:
        raise InputError(f"FluidSynth failed: {errors[0][:_MOST_SAID]}")
