"""The files that ``omar-rq leadsheet`` writes: one, or one for each recording."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omar_rq.annotations.events import Annotation
from omar_rq.reading.lead_sheet import lead_sheet
from pentatonic.audio_folder.npz import find_audio
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import check_output_folder, make_output_place
from pentatonic.errors import UsageError
from pentatonic.folder_run import mirrored, without_suffixes

_SUFFIX = ".abc"


class LeadSheetFiles:
    """Places of lead sheets.

    Args:
        inputs: Files and folders of recordings.
        out: An ``.abc`` file for one recording, or a folder.

    Raises:
        UsageError: There are no recordings, there are several for one file, or ``out`` cannot be written.
    """

    def __init__(self, inputs: Sequence[Path], out: Path) -> None:
        files = find_audio(inputs).files
        if out.suffix.lower() == _SUFFIX and not out.is_dir():
            if len(files) > 1:
                raise UsageError(f"--out {out} is one file for {len(files)} recordings; allowed: a folder")
            make_output_place(out, inputs=files)
            self._targets = {files[0]: out}
            return
        check_output_folder(out)
        places = without_suffixes(mirrored(inputs, files))
        self._targets = {path: out / f"{place}{_SUFFIX}" for path, place in places.items()}

    def write(self, path: Path, annotation: Annotation) -> Sequence[str]:
        """Write the lead sheet of a recording, whole or not at all.

        Returns:
            A line that names it.

        Raises:
            InputError: There are no beats.
            CheckpointError: It cannot be written.
        """
        beats = annotation.beats
        assert beats is not None
        notes = [
            "written by omar-rq leadsheet from what probes heard; it can be wrong, please check by ear",
            f"beats: confidence {beats.confidence:.2f}, meter {beats.meter_confidence:.2f}",
            *annotation.notes,
        ]
        if annotation.key:
            notes.append(f"key: {annotation.key[0].label}, confidence {annotation.key[0].value:.2f}")
        text = lead_sheet(
            beats,
            annotation.chords or (),
            title=path.stem.replace("_", " "),
            key=annotation.key or (),
            keys=annotation.keys or (),
            notes=notes,
        )
        target = self._targets[path]
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(target, "w") as file:
            file.write(text)
        return [f"  wrote {target}"]
