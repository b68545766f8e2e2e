"""Judge a small model of rc-audioldm that was trained on the clips of tools/phrases/make_phrases.py.

    python tools/judge_small_audioldm.py clap MODEL --clips data/phrases
    python tools/judge_small_audioldm.py sound MODEL --clips data/phrases --out judged
    python tools/judge_small_audioldm.py retrieval MODEL --clips data/phrases --out judged
    python tools/judge_small_audioldm.py music MODEL/clap --recordings recordings

`clap`: does the space tell instruments, registers and pitches of clips apart that training lacked? `sound`: do clips
that are made from texts have the asked register, pitch and timbre, at what level, and are they copies? Beside them:
the same texts with an untrained UNet, noise, the nearest training clip, and held-out clips through VAE and vocoder.
`retrieval`: do two clips of another instrument move a clip towards them? `music`: does a text find the right
soundtrack among real recordings (tools/real_recordings.py)?

Intervals are of 95 %, from 2,000 draws of clips, prompts or tracks. Everything follows from the seed.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from numpy.typing import NDArray
from phrase_measures import RATE, REGISTERS, Listener, Phrases, Samples, level_db, pitches, register_of

from pentatonic.audio import load
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import progress, run_manifest
from pentatonic.mel import MelFrontend
from rc_audioldm.clap import ClapEncoder
from rc_audioldm.clap import from_pretrained as load_clap
from rc_audioldm.clap.encoder import check_text_tower
from rc_audioldm.data.manifest import ManifestRow
from rc_audioldm.denoising.decoding import decode, encode_mel
from rc_audioldm.denoising.guidance import Guidance
from rc_audioldm.denoising.loop import Denoising
from rc_audioldm.denoising.sampling import Item, ItemConditions, Sampling, sample
from rc_audioldm.model import AudioLDM
from rc_audioldm.prompts.conditions import Condition
from rc_audioldm.prompts.encoder import PromptEncoder
from rc_audioldm.style.blending import blend
from rc_audioldm.style.vectors import style_from
from rc_audioldm.weights import from_pretrained

SECONDS, DRAWS = 1.28, 2_000
PITCHED = (
    *("piano", "marimba", "organ", "guitar", "electric guitar", "bass", "violin"),
    *("cello", "harp", "trumpet", "oboe", "clarinet", "flute"),
)
INSTRUMENTS = (*PITCHED, "drums")


def interval(values: Sequence[float] | NDArray[np.float64], seed: int = 0) -> dict[str, float]:
    """Return the mean of values with its interval, by drawing them anew."""
    array = np.asarray(values, dtype=np.float64)
    draws = np.random.default_rng(seed).integers(0, len(array), (DRAWS, len(array)))
    low, high = np.percentile(array[draws].mean(axis=1), (2.5, 97.5))
    return {"mean": float(array.mean()), "low": float(low), "high": float(high), "n": len(array)}


def article(words: str) -> str:
    """Return words with their article."""
    return f"an {words}" if words[0] in "aeiou" else f"a {words}"


# What is judged


def judge_clap(model: Path, clips: Phrases) -> dict[str, Any]:
    """Nearest captions and nearest clips on what training lacked."""
    encoder = load_clap(model / "clap")
    report: dict[str, Any] = {"self_test_mean_cosine": check_text_tower(encoder, str(model))}
    for split in ("heldout", "other-preset"):
        rows = clips.split(split)
        vectors = torch.stack(
            [encoder.embed_audio(torch.from_numpy(clips.read(row)), RATE)[0] for row in rows]
        ).numpy()
        report[split] = _told_apart(encoder, rows, vectors)
    return report


def _told_apart(encoder: ClapEncoder, rows: Sequence[ManifestRow], vectors: NDArray[Any]) -> dict[str, Any]:
    texts: dict[str, NDArray[Any]] = {}

    def nearest(row: int, captions: Sequence[str]) -> int:
        for caption in captions:
            if caption not in texts:
                texts[caption] = encoder.embed_text([caption])[0].numpy()
        return int(np.argmax([vectors[row] @ texts[caption] for caption in captions]))

    found: dict[str, list[float]] = {}

    def note(name: str, is_right: bool) -> None:
        found.setdefault(name, []).append(float(is_right))

    for index, row in enumerate(rows):
        own = row.labels[0]
        note(
            "instrument (chance .071)", INSTRUMENTS[nearest(index, [article(x) for x in INSTRUMENTS])] == own
        )
        for name, choices, noun in (
            ("register (chance .333)", REGISTERS, own),
            ("speed (chance .5)", ("slow", "fast"), f"{own} phrase"),
            ("direction (chance .5)", ("rising", "falling"), f"{own} phrase"),
            ("loudness (chance .5)", ("soft", "loud"), own),
        ):
            label = next((each for each in choices if each in row.labels), None)
            if label is not None and not (name.startswith("speed") and own == "drums"):
                note(name, choices[nearest(index, [f"a {each} {noun}" for each in choices])] == label)
    report = {name: interval(values) for name, values in found.items()}
    likeness = vectors @ vectors.T
    np.fill_diagonal(likeness, -2)
    labels = np.array([row.labels[0] for row in rows])
    registers = np.array([register_of(row.labels) for row in rows])
    middles = np.array([np.mean([note[2] for note in row.more["notes"]]) for row in rows])
    neighbour = likeness.argmax(axis=1)
    same = labels[:, None] == labels
    np.fill_diagonal(same, False)
    chance = same.sum(axis=1) / (len(rows) - 1)
    report["nearest clip of the same instrument"] = interval(labels[neighbour] == labels)
    report["by chance"] = interval(chance)
    pitched = registers != ""
    of_same = [np.where(same[row], likeness[row], -2).argmax() for row in range(len(rows))]
    report["nearest clip of the same instrument has the register"] = interval(
        [registers[of_same[row]] == registers[row] for row in np.flatnonzero(pitched) if same[row].any()]
    )
    report["semitones from it"] = interval(
        [abs(middles[of_same[row]] - middles[row]) for row in np.flatnonzero(pitched) if same[row].any()]
    )
    report["semitones by chance"] = interval(
        [
            np.abs(middles[same[row]] - middles[row]).mean()
            for row in np.flatnonzero(pitched)
            if same[row].any()
        ]
    )
    return report


def prompts(clips: Phrases, seed: int) -> list[dict[str, Any]]:
    """Return what is asked for: each instrument in each register, and single notes by name."""
    rng = np.random.default_rng(seed)
    asked: list[dict[str, Any]] = []
    for instrument in PITCHED:
        for register in REGISTERS:
            low, high = clips.range_of(instrument, register)
            about = {"instrument": instrument, "register": register, "low": low, "high": high}
            asked.append(about | {"text": article(f"{register} {instrument} phrase"), "kind": "phrase"})
            pitch = int(rng.integers(int(low), int(high) + 1))
            names = ("C", "C#", "D", "D#", "E", "F", "F#", "G", "G#", "A", "A#", "B")
            note = f"{names[pitch % 12]}{pitch // 12 - 1}"
            asked.append(
                about
                | {"text": article(f"{register} {instrument} note, {note}"), "kind": "note", "pitch": pitch}
            )
    for speed in ("slow", "fast"):
        asked.append({"text": f"a {speed} drum beat", "instrument": "drums", "kind": "beat"})
    return asked


def judge_sound(
    model: Path, clips: Phrases, out: Path, *, seeds: int, settings: Denoising, seed: int
) -> dict[str, Any]:
    """Clips from texts, beside what they are compared with."""
    audioldm, encoder = from_pretrained(model), load_clap(model / "clap")
    train = clips.split("train")
    listener = Listener(train, clips.read)
    asked = prompts(clips, seed)
    items = [Item(each["text"], index=index, variants=seeds) for index, each in enumerate(asked)]
    made: dict[str, list[tuple[dict[str, Any], Samples]]] = {}
    began = time.perf_counter()
    made["the model"] = _made(audioldm, items, asked, settings, seed, "the model")
    seconds = (time.perf_counter() - began) / (len(items) * seeds)
    untrained = _untrained(audioldm, seed)
    made["untrained UNet"] = _made(
        untrained, [Item(i.text, index=i.index) for i in items], asked, settings, seed, ""
    )
    rng = np.random.default_rng(seed)
    made["noise"] = [(each, (0.06 * rng.standard_normal(20_480)).astype(np.float32)) for each in asked]
    vectors = np.stack(
        [encoder.embed_audio(torch.from_numpy(clips.read(row)), RATE)[0].numpy() for row in train]
    )
    nearest = (encoder.embed_text([each["text"] for each in asked]).numpy() @ vectors.T).argmax(axis=1)
    made["nearest training clip"] = [
        (each, clips.read(train[row])) for each, row in zip(asked, nearest, strict=True)
    ]
    for name, split in (("held-out clips", "heldout"), ("held-out clips through VAE and vocoder", "heldout")):
        rows = [row for row in clips.split(split) if register_of(row.labels) or row.labels[0] == "drums"]
        chosen = [rows[each] for each in rng.permutation(len(rows))[: len(asked)]]
        sounds = [clips.read(row) for row in chosen]
        if "through" in name:
            sounds = [through(audioldm, samples) for samples in sounds]
        made[name] = [(_asked_of(row, clips), sound) for row, sound in zip(chosen, sounds, strict=True)]
    report: dict[str, Any] = {"prompts": len(asked), "seeds": seeds, "seconds_per_clip": seconds}
    limit = float(np.percentile([listener.nearest_copy(sound) for _, sound in made["held-out clips"]], 99))
    report["nearest training clip of held-out clips, 99th percentile"] = limit
    details = []
    for name, sounds in made.items():
        measured = [_measured(each, sound, listener, encoder) for each, sound in sounds]
        details += [
            {"source": name, "text": each["text"], **values}
            for (each, _), values in zip(sounds, measured, strict=True)
        ]
        report[name] = _summary(measured, limit)
    _write(out / "sound.json", report)
    with atomic_file(out / "sound_items.jsonl", "w") as file:
        file.writelines(json.dumps(each) + "\n" for each in details)
    (out / "wav").mkdir(parents=True, exist_ok=True)
    for number, (each, sound) in enumerate(made["the model"]):
        name = each["text"].replace(" ", "-").replace(",", "").replace("#", "s")
        soundfile.write(out / "wav" / f"{number:03d}-{name}.wav", sound, RATE)
    return report


def _made(
    model: AudioLDM,
    items: Sequence[Item],
    asked: Sequence[dict[str, Any]],
    settings: Denoising,
    seed: int,
    title: str,
    restyle: Any = None,
) -> list[tuple[dict[str, Any], Samples]]:
    sampling = Sampling(seconds=SECONDS, seed=seed, denoising=settings, batch_size=8)
    found = []
    with progress(sum(item.variants for item in items), f"making {title}".strip()) as bar:
        for clip in sample(model, items, sampling, restyle=restyle):
            found.append((asked[clip.item.index], clip.audio.numpy()))
            bar.advance()
    return found


def _untrained(model: AudioLDM, seed: int) -> AudioLDM:
    torch.manual_seed(seed)
    fresh: Any = type(model.unet).from_config(model.unet.config)
    return AudioLDM(
        unet=fresh.eval().requires_grad_(False),
        vae=model.vae,
        scheduler=model.scheduler,
        vocoder=model.vocoder,
        text_encoder=model.text_encoder,
        tokenizer=model.tokenizer,
    )


def through(model: AudioLDM, samples: Samples) -> Samples:
    """Return a sound as VAE and vocoder give it back."""
    mel = MelFrontend.preset("audioldm")(torch.from_numpy(samples)).mT[:128]
    return decode(model, encode_mel(model, mel[None, None]), SECONDS)[0].numpy()


def _asked_of(row: ManifestRow, clips: Phrases) -> dict[str, Any]:
    about = {"text": row.caption, "instrument": row.labels[0], "kind": row.labels[1]}
    if register := register_of(row.labels):
        low, high = clips.range_of(row.labels[0], register)
        about |= {"register": register, "low": low, "high": high}
    if row.labels[1] == "note":
        about |= {"pitch": row.more["notes"][0][2]}
    return about


def _measured(
    asked: Mapping[str, Any], sound: Samples, listener: Listener, encoder: ClapEncoder
) -> dict[str, float]:
    measured = {
        "instrument": float(listener.instrument(sound) == asked["instrument"]),
        "level_db": level_db(sound),
        "copy": listener.nearest_copy(sound),
    }
    texts = [article(name) for name in INSTRUMENTS]
    vectors = encoder.embed_audio(torch.from_numpy(sound), RATE) @ encoder.embed_text(texts).T
    measured["instrument by CLAP"] = float(INSTRUMENTS[int(vectors[0].argmax())] == asked["instrument"])
    if "register" in asked:
        played = pitches(sound)
        middle = float(np.median(played)) if len(played) else float("nan")
        measured["register"] = float(asked["low"] - 1 <= middle <= asked["high"] + 1)
        if "pitch" in asked:
            away = middle - asked["pitch"]
            measured["pitch"] = float(abs(away) < 0.5)
            measured["pitch class"] = float(abs((away + 6) % 12 - 6) < 0.5)
            measured["pitch within a third"] = float(abs(away) < 4.5)
    return measured


def _summary(measured: Sequence[Mapping[str, float]], limit: float) -> dict[str, Any]:
    names = sorted({name for each in measured for name in each} - {"copy", "level_db"})
    report: dict[str, Any] = {
        name: interval([each[name] for each in measured if name in each]) for name in names
    }
    levels = [each["level_db"] for each in measured]
    report["level_db"] = {"median": float(np.median(levels)), "lowest": min(levels), "highest": max(levels)}
    copies = [each["copy"] for each in measured]
    report["nearest training clip"] = {"median": float(np.median(copies)), "highest": max(copies)}
    report["nearer than held-out clips are"] = interval([each > limit for each in copies])
    return report


def judge_retrieval(
    model: Path, clips: Phrases, out: Path, *, trials: int, every: int, settings: Denoising, seed: int
) -> dict[str, Any]:
    """Two held-out clips of another instrument, and a clip from a text: same noise, three strengths."""
    audioldm, encoder = from_pretrained(model), load_clap(model / "clap")
    listener = Listener(clips.split("train")[::every], clips.read)
    rng = np.random.default_rng(seed)
    heldout: dict[str, list[ManifestRow]] = {}
    for row in clips.split("heldout"):
        if row.labels[0] != "drums":
            heldout.setdefault(row.labels[0], []).append(row)
    asked, styles, towards = [], [], []
    for trial in range(trials):
        instrument = PITCHED[trial % len(PITCHED)]
        other = str(rng.choice([name for name in PITCHED if name != instrument]))
        register = REGISTERS[int(rng.integers(3))]
        pair = [heldout[other][each] for each in rng.choice(len(heldout[other]), 2, replace=False)]
        sounds = [clips.read(row) for row in pair]
        vectors = encoder.embed_audio([torch.from_numpy(sound) for sound in sounds], RATE)
        asked.append(
            {"text": article(f"{register} {instrument} phrase"), "instrument": instrument, "other": other}
        )
        styles.append(style_from(vectors[None], torch.full((1, 2), 0.5))[0])
        towards.append((vectors, [listener.features(sound) for sound in sounds]))
    found: dict[float, list[dict[str, float]]] = {}
    for strength in (0.0, 0.5, 1.0):

        def restyle(
            item: Item, conditions: ItemConditions, prompts: PromptEncoder, strength: float = strength
        ) -> ItemConditions:
            mixed = blend(prompts.clap(item.text), styles[item.index], strength)
            return ItemConditions(Condition(vector=mixed), conditions.negative)

        items = [Item(each["text"], index=index) for index, each in enumerate(asked)]
        made = _made(audioldm, items, asked, settings, seed, f"strength {strength}", restyle)
        found[strength] = []
        for (about, sound), (vectors, features) in zip(made, towards, strict=True):
            own = encoder.embed_audio(torch.from_numpy(sound), RATE)[0]
            text = encoder.embed_text([about["text"]])[0]
            spectral = [float(np.sqrt(np.mean((listener.features(sound) - each) ** 2))) for each in features]
            heard = listener.instrument(sound)
            found[strength].append(
                {
                    "CLAP likeness to the retrieved clips": float((vectors @ own).mean()),
                    "CLAP likeness to the text": float(text @ own),
                    "distance of spectral envelopes to the retrieved clips": float(np.mean(spectral)),
                    "heard as the retrieved instrument": float(heard == about["other"]),
                    "heard as the instrument of the text": float(heard == about["instrument"]),
                }
            )
    names = list(found[0.0][0])
    report: dict[str, Any] = {"trials": trials}
    for name in names:
        report[name] = {
            f"strength {strength:g}": interval([each[name] for each in rows])
            for strength, rows in found.items()
        } | {
            f"strength {strength:g} less 0": interval(
                [one[name] - zero[name] for one, zero in zip(found[strength], found[0.0], strict=True)]
            )
            for strength in (0.5, 1.0)
        }
    _write(out / "retrieval.json", report)
    return report


# Texts for two soundtracks that models are judged on, orchestral and electronic, and the teacher's tags that they name.
_SOUNDTRACKS: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "wesnoth": {
        "orchestral music, classical, strings": ("classical", "strings"),
        "a recording of violin, cello": ("violin", "cello"),
        "slow, classical music": ("slow", "classical"),
    },
    "warzone": {
        "techno, electronic music": ("techno", "electronic"),
        "a recording of electronic, synth, beat": ("electronic", "synth", "beat"),
        "fast, electronic, dance": ("fast", "electronic", "dance"),
    },
}


def judge_music(
    folder: Path, recordings: Path, out: Path, *, per_track: int, teacher_cache: Path | None
) -> dict[str, Any]:
    """Find the tracks of one of two soundtracks by texts, beside the teacher by its tags; intervals by tracks."""
    encoder, teacher, tags = load_clap(folder), None, list[str]()
    if teacher_cache is not None:
        from musicnn_teacher import labels, load_teacher, teacher_wheel

        teacher, tags = load_teacher(teacher_wheel(teacher_cache), "MTT"), labels("MTT")
    lines = (recordings / "manifest.jsonl").read_text(encoding="utf-8").splitlines()
    tracks = [json.loads(line) for line in lines]
    tracks = [
        track
        for track in tracks
        if track["duration_s"] >= 30 and any(name in track["package"] for name in _SOUNDTRACKS)
    ]
    vectors, tagged, kinds = [], [], []
    with progress(len(tracks), "listening") as bar:
        for track in tracks:
            audio = load(recordings / track["file"], sample_rate=RATE).samples[0]
            size = 10 * RATE
            starts = np.linspace(0, max(0, len(audio) - size), per_track).astype(int)
            pieces = [audio[start : start + size] for start in starts]
            vectors.append(encoder.embed_audio(pieces, RATE).mean(dim=0))
            if teacher is not None:
                from musicnn_teacher import embed

                tagged.append(
                    torch.stack([embed(teacher, piece)[1].mean(dim=0) for piece in pieces]).mean(dim=0)
                )
            kinds.append(next(name for name in _SOUNDTRACKS if name in track["package"]))
            bar.advance()
    matrix, kind = torch.stack(vectors), np.array(kinds)
    report: dict[str, Any] = {"tracks": {name: int((kind == name).sum()) for name in _SOUNDTRACKS}}
    for name, texts in _SOUNDTRACKS.items():
        for text, named in texts.items():
            scores = (matrix @ encoder.embed_text([text])[0]).numpy()
            report[text] = {"soundtrack": name, "model": _area(scores[kind == name], scores[kind != name])}
            if teacher is not None:
                heard = torch.stack(tagged)[:, [tags.index(tag) for tag in named]].mean(dim=1).numpy()
                report[text]["teacher"] = _area(heard[kind == name], heard[kind != name])
    _write(out / "music.json", report)
    return report


def _area(right: NDArray[Any], wrong: NDArray[Any]) -> dict[str, float]:
    """How often a right track has a higher score than a wrong one; chance is .5."""
    rng = np.random.default_rng(0)

    def area(one: NDArray[Any], other: NDArray[Any]) -> float:
        return float((one[:, None] > other).mean() + 0.5 * (one[:, None] == other).mean())

    drawn = [area(rng.choice(right, len(right)), rng.choice(wrong, len(wrong))) for _ in range(DRAWS)]
    low, high = np.percentile(drawn, (2.5, 97.5))
    return {"right before wrong": area(right, wrong), "low": float(low), "high": float(high)}


def _write(path: Path, report: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path, "w") as file:
        file.write(json.dumps(run_manifest() | {"report": report}, indent=2) + "\n")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("clap", "sound", "retrieval", "music"))
    parser.add_argument("model", type=Path, help="folder of the model; for music: of the CLAP model")
    parser.add_argument("--clips", type=Path, help="folder of tools/phrases/make_phrases.py")
    parser.add_argument("--recordings", type=Path, help="folder of tools/real_recordings.py")
    parser.add_argument("--out", type=Path, default=Path("judged"))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--trials", type=int, default=65)
    parser.add_argument(
        "--every", type=int, default=1, help="retrieval: timbres from every n-th training clip"
    )
    parser.add_argument("--per-track", type=int, default=4)
    parser.add_argument("--teacher", type=Path, help="folder of the teacher's wheel, for its numbers beside")
    parser.add_argument("--steps", type=int, default=25)
    parser.add_argument("--guidance", type=float, default=3.0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    settings = Denoising(steps=args.steps, guidance=Guidance(text=args.guidance))
    if args.what == "music":
        report = judge_music(
            args.model,
            args.recordings,
            args.out,
            per_track=args.per_track,
            teacher_cache=args.teacher,
        )
    else:
        clips = Phrases(args.clips)
        if args.what == "clap":
            report = judge_clap(args.model, clips)
            _write(args.out / "clap.json", report)
        elif args.what == "sound":
            report = judge_sound(
                args.model, clips, args.out, seeds=args.seeds, settings=settings, seed=args.seed
            )
        else:
            report = judge_retrieval(
                args.model,
                clips,
                args.out,
                trials=args.trials,
                every=args.every,
                settings=settings,
                seed=args.seed,
            )
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main()
