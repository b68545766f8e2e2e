"""``rc-audioldm evaluate listening-test`` and ``answers``.

rc-audioldm evaluate listening-test systems=[run-a,run-b] names=[A,B] out=test
rc-audioldm evaluate answers key=test/key.json sheets=[Ann.xlsx,Bob.csv]
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pentatonic.cli import BatchReport, check_inputs, make_output_folder, show
from pentatonic.errors import UsageError
from pentatonic.statistics import DEFAULT_RESAMPLES
from pentatonic.training import compose_config
from rc_audioldm.evaluation.listening.analysis import analyse_answers
from rc_audioldm.evaluation.listening.answers import read_answers
from rc_audioldm.evaluation.listening.kit import write_test
from rc_audioldm.evaluation.listening.trials import CRITERIA, plan_trials, read_key
from rc_audioldm.evaluation.options import check_ranges, named_folders, required
from rc_audioldm.evaluation.report import answer_lines
from rc_audioldm.evaluation.systems import pair_items, read_system
from rc_audioldm.prompts.files import read_prompts

_CONF = "rc_audioldm.evaluation.conf"
_SHEETS = (".xlsx", ".csv")


@dataclass
class ListeningTestConfig:
    """Options of ``rc-audioldm evaluate listening-test``.

    Args:
        systems: Folders of recordings, such as runs; two or more.
        names: Of the systems; none: those of the folders.
        out: Folder of the test.
        prompts: File with a prompt on each line, in the order of the recordings; None: what the runs say.
        criteria: What is asked.
        seed: Of everything random.
        json: Print the result as one JSON document.
    """

    systems: list[str] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    out: str | None = None
    prompts: str | None = None
    criteria: list[str] = field(default_factory=lambda: list(CRITERIA))
    seed: int = 0
    json: bool = False


@dataclass
class AnswersConfig:
    """Options of ``rc-audioldm evaluate answers``.

    Args:
        key: ``key.json`` of a test, or ``test_pairs_with_answers.json`` of the original.
        sheets: Filled sheets, ``.xlsx`` or ``.csv``, or folders with them.
        resamples: Resamples for the intervals.
        seed: Of everything random.
        json: Print the result as one JSON document.
    """

    key: str | None = None
    sheets: list[str] = field(default_factory=list)
    resamples: int = DEFAULT_RESAMPLES
    seed: int = 0
    json: bool = False


def make_test(overrides: Sequence[str]) -> None:
    """Make a test, with Hydra overrides such as ``systems=[run-a,run-b] out=test``."""
    config = compose_config(_CONF, overrides, ListeningTestConfig, config_name="listening_test")
    named, out = named_folders(config.systems, config.names), required(config.out, "out=FOLDER")
    prompts = None if config.prompts is None else Path(config.prompts)
    check_inputs([*named.values(), *([] if prompts is None else [prompts])])
    check_ranges(config, {"seed": 0})
    if not config.criteria:
        raise UsageError(f"criteria are none; allowed: at least one, such as {', '.join(CRITERIA)}")
    make_output_folder(out, "out=")
    texts = None if prompts is None else read_prompts(prompts)
    pairing = pair_items([read_system(name, folder, prompts=texts) for name, folder in named.items()])
    trials = plan_trials(pairing, criteria=config.criteria, seed=config.seed)
    report = BatchReport()
    count = write_test(out, trials, pairing, report, seed=config.seed)
    report.print_summary()
    about = {"trials": count, "for listeners": str(out / "listeners"), "key": str(out / "key.json")}
    lines = [*pairing.notes, *(f"{key:<14}{value}" for key, value in about.items())]
    show({**about, "notes": pairing.notes}, config.json, lambda: lines)
    report.raise_for_failures()


def analyse_sheets(overrides: Sequence[str]) -> None:
    """Analyse answers, with Hydra overrides such as ``key=test/key.json sheets=[Ann.xlsx]``."""
    config = compose_config(_CONF, overrides, AnswersConfig, config_name="answers")
    key, sheets = required(config.key, "key=FILE"), [Path(each) for each in config.sheets]
    check_inputs([key, *sheets])
    check_ranges(config, {"resamples": 1, "seed": 0})
    files = [file for sheet in sheets for file in _files_in(sheet)]
    if not files:
        raise UsageError("there are no answers; give sheets=[FILE,...], of .xlsx or .csv, or folders of them")
    given, notes = read_answers(files)
    result = analyse_answers(read_key(key), given, resamples=config.resamples, seed=config.seed)
    show({"result": result, "notes": notes}, config.json, lambda: [*answer_lines(result), *notes])


def _files_in(sheet: Path) -> list[Path]:
    """The sheets of a folder by their names; a file is itself."""
    if not sheet.is_dir():
        return [sheet]
    return sorted(each for each in sheet.iterdir() if each.suffix.lower() in _SHEETS)
