"""FluidSynth gets a list of arguments and runs in limits; what it cannot play is an error and never silence."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pentatonic.audio import soundfont as module
from pentatonic.audio.soundfont import find_soundfont, render_midi
from pentatonic.errors import BackendUnavailable, FormatError, InputError, UsageError

RATE = 8000
# The A above middle C, half a second long: on, after 96 ticks off, end of the track.
TRACK = bytes.fromhex("0090455a6080450000ff2f00")
MIDI = b"MThd" + bytes.fromhex("00000006000000010060") + b"MTrk" + len(TRACK).to_bytes(4) + TRACK

needs_fluidsynth = pytest.mark.skipif(
    shutil.which("fluidsynth") is None or not any(Path(place).is_file() for place in module._PLACES),
    reason="FluidSynth or a SoundFont is not installed",
)


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Install a program ``fluidsynth`` with the given body in Python; returns the function that does so."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))

    def install(body: str) -> Path:
        program = tmp_path / "bin" / "fluidsynth"
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable} -P\nimport json, os, sys, time\n{body}\n")
        program.chmod(0o755)
        return program

    return install


def font(folder: Path, name: str = "font.sf2") -> Path:
    path = folder / name
    path.write_bytes(b"RIFF\x04\x00\x00\x00sfbk")
    return path


def test_the_arguments_are_a_list_and_the_sound_comes_back(stand_in: Any, tmp_path: Path) -> None:
    told = tmp_path / "told.json"
    stand_in(
        f"json.dump([sys.argv[1:], os.getcwd(), open(sys.argv[-1], 'rb').read().hex()], open({str(told)!r}, 'w'))\n"
        "import soundfile\n"
        "soundfile.write(sys.argv[sys.argv.index('-F') + 1], [[0.5, -1.5], [2.0, 0.25]], 8000, subtype='FLOAT')"
    )
    odd = font(tmp_path, "$(touch x) -n.sf2")
    sound = render_midi(MIDI, odd, RATE, gain=0.25, polyphony=9, effects=False)
    assert sound.dtype == np.float32
    assert sound.tolist() == [[0.5, 2.0], [-1.5, 0.25]]
    arguments, folder, midi = json.loads(told.read_text())
    assert bytes.fromhex(midi) == MIDI
    assert Path(folder) != Path.cwd()
    target, source = arguments[arguments.index("-F") + 1], arguments[-1]
    assert arguments == [
        *("-n", "-i", "-q", "-f", "/dev/null", "-F", target, "-T", "wav", "-O", "float", "-r", "8000"),
        *("-g", "0.25", "-R", "0", "-C", "0", "-o", "synth.polyphony=9", str(odd), source),
    ]
    assert not Path(target).parent.exists()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("sys.exit('no luck' if sys.stdin.read() == '' else 0)", r"status 1\): no luck"),
        (
            "print('fluidsynth: error: Failed to load SoundFont', file=sys.stderr)",
            "failed: Failed to load Sou",
        ),
        ("pass", "wrote no sound"),
        ("time.sleep(60)", r"longer than 0\.3 s"),
        ("os.kill(os.getpid(), 11)", r"status -11\)"),
    ],
)
def test_a_failure_is_named(stand_in: Any, tmp_path: Path, body: str, reason: str) -> None:
    stand_in(body)
    limit_s = 0.3 if "sleep" in body else 30.0
    with pytest.raises(InputError, match=reason):
        render_midi(MIDI, font(tmp_path), RATE, timeout_s=limit_s)


def test_memory_is_limited(stand_in: Any, tmp_path: Path) -> None:
    stand_in("import resource\nsys.exit(f'data {resource.getrlimit(resource.RLIMIT_DATA)[0]}')")
    with pytest.raises(InputError, match=f"data {module._MEMORY_BYTES}"):
        render_midi(MIDI, font(tmp_path), RATE)


def test_a_soundfont_is_found_or_what_is_missing_is_said(
    stand_in: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BackendUnavailable, match="fluidsynth is not installed"):
        find_soundfont(font(tmp_path))
    stand_in("pass")
    monkeypatch.chdir(tmp_path)
    assert find_soundfont(Path("font.sf2")) == tmp_path / "font.sf2"
    with pytest.raises(BackendUnavailable, match=r"no soundfont at none\.sf2"):
        find_soundfont(Path("none.sf2"))
    Path("text.sf2").write_text("not a soundfont at all")
    with pytest.raises(FormatError, match=r"text\.sf2: this is no SoundFont"):
        find_soundfont(Path("text.sf2"))
    monkeypatch.setattr(module, "_PLACES", (str(tmp_path / "a.sf2"), str(tmp_path / "b.sf3")))
    with pytest.raises(BackendUnavailable, match="no soundfont in /usr/share/sounds/sf2"):
        find_soundfont()
    second = font(tmp_path, "b.sf3")
    assert find_soundfont() == second
    first = font(tmp_path, "a.sf2")
    assert find_soundfont() == first


def test_rates_that_fluidsynth_does_not_have_are_refused(tmp_path: Path) -> None:
    for rate in (7999, 96_001, 44100.5):
        with pytest.raises(UsageError, match="8000 to 96000"):
            render_midi(MIDI, font(tmp_path), rate)  # type: ignore[arg-type]


@needs_fluidsynth
def test_fluidsynth_plays_the_note() -> None:
    sound = render_midi(MIDI, find_soundfont(), RATE)
    assert sound.shape[0] == 2
    assert sound.shape[1] > RATE / 2
    spectrum = np.abs(np.fft.rfft(sound.mean(axis=0)[: RATE // 2], RATE))
    partials = spectrum[[440, 880, 1320]].max()
    assert partials > 0.5 * spectrum.max()
    quiet = render_midi(MIDI, find_soundfont(), RATE, gain=0.1)
    assert np.abs(quiet).max() == pytest.approx(0.2 * np.abs(sound).max(), rel=0.02)


@needs_fluidsynth
def test_what_fluidsynth_cannot_read_is_no_silence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="FluidSynth failed: "):
        render_midi(MIDI, font(tmp_path), RATE)
    with pytest.raises(InputError, match="FluidSynth failed "):
        render_midi(b"no midi", find_soundfont(), RATE)
