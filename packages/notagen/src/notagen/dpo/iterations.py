"""``notagen dpo``: write pieces, judge them, choose, train, and start again with the better policy (CLaMP-DPO).

    notagen dpo data.references=data/augmented_train.jsonl data.style=Choral run_dir=runs/notagen/dpo iterations=2

The run folder has ``judge.json`` (what the judge hears), ``references.safetensors``, ``summary.md`` and
``summary.csv``; and for each iteration K from 0 ``iter_KK`` with ``samples.jsonl`` (the pieces, also below ``original``
as the policy wrote them), ``features.safetensors``, ``scores.csv``, ``measures.json`` and ``report.html``. From
iteration 1 on there are also the preferences (``preference.json``, ``preference_report.csv``), the training
(``metrics.jsonl``, ``ref_logps.safetensors``) and the ``policy``, which :func:`notagen.from_pretrained` loads.

A run that was stopped, at any moment, goes on when the same command is given; more iterations may be asked for.
"""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from notagen.clamp2.scores import clamp2_scores
from notagen.dpo.collection import Collection, ReferencePiece, read_collection
from notagen.dpo.config import DpoConfig
from notagen.dpo.encoding import fixed_crops
from notagen.dpo.judge import Judge, ModelJudge, judged_text, load_judge
from notagen.dpo.judge_checks import best_separation, check_judge
from notagen.dpo.log_probability import reference_log_probabilities
from notagen.dpo.measuring import broken_floors, measure_pieces, pairwise_cosine, scores_of
from notagen.dpo.preferences import Preferences, Sample, select
from notagen.dpo.ratings import rated_preferences
from notagen.dpo.reporting import write_page, write_summary
from notagen.dpo.rules import RuleSettings
from notagen.dpo.steps import Steps
from notagen.dpo.training import characters, train_policy
from notagen.generation.decoding import Limits, Request
from notagen.generation.piece_folder import fingerprint, write_pieces
from notagen.model import NotaGen
from notagen.prompts import PROMPTS_FILE, model_prompts, prompt_table
from notagen.weights import from_pretrained
from pentatonic.checkpoint import atomic_file, load_tensors, save_tensors
from pentatonic.cli import make_output_folder, run_manifest
from pentatonic.errors import InputError, PentatonicError
from pentatonic.folder_run import claim_folder, write_json
from pentatonic.processes.run_lock import locked_run_folder
from pentatonic.progress import printable
from pentatonic.training import compose_config, config_yaml, mix_seed

_RUN_FILE, _SAMPLES, _FEATURES, _MEASURES = (
    "dpo.json",
    "samples.jsonl",
    "features.safetensors",
    "measures.json",
)
_PREFERENCES = "preference.json"


@dataclass
class DpoResult:
    """Where a run ended.

    Attributes:
        rows: Measures of each iteration.
        stopped: Floors that were broken, where they ended the run.
        interrupted: Whether a signal did; a new run goes on from there.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    stopped: list[str] = field(default_factory=list)
    interrupted: bool = False


class FloorReached(PentatonicError):
    """Diversity, length or validity left its floor, and the run ended there."""


class _Interrupted(Exception):
    """A signal ended the training."""


def run_iterations(config: DpoConfig) -> DpoResult:
    """Run the loop, or go on with it, in ``config.run_dir``.

    Returns:
        Where it ended; the models and reports are in the run folder.

    Raises:
        InputError: Music cannot be read, or too few pieces could be chosen.
        UsageError: The judge is blind; or the folder was made with other settings, models or music.
        HubError, CheckpointError, ConfigError: A model cannot be used.
        RunFolderInUse: Another process works in the folder.
    """
    loop = _Loop(config)
    with locked_run_folder(loop.folder):
        try:
            return loop.run()
        except _Interrupted:
            return DpoResult(loop.rows, interrupted=True)


class _Loop:
    """One run.

    Attributes:
        folder: Its folder.
        rows: Measures of the iterations so far.
        notes: What a reader of the summary should know.
    """

    def __init__(self, config: DpoConfig) -> None:
        self.config, self.folder = config, Path(config.run_dir)
        self.collection: Collection = read_collection(config.data, seed=config.seed)
        self.start = from_pretrained(config.init, device=config.device)
        self.scorer, self.judge = (self._judge(name) for name in (config.scorer, config.judge))
        self.prompts = self._prompts()
        self.rated = None if config.ratings is None else rated_preferences(Path(config.ratings))
        self.rows: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def run(self) -> DpoResult:
        claim_folder(self.folder / _RUN_FILE, self._settings(), advice="choose another run_dir")
        write_json(self.folder / _RUN_FILE, {"settings": self._settings(), **run_manifest()})
        with atomic_file(self.folder / "config.yaml", "w") as file:
            file.write(config_yaml(self.config))
        made_from = self._check_judge()
        policy = self.start
        for number in range(self.config.iterations + 1):
            steps = Steps(self._iteration(number))
            if number:
                made_from = steps.run("choose", made_from, lambda n=number: self._choose(n))
                made_from = steps.run("train", made_from, lambda n=number, p=policy: self._train(n, p))
                shutil.rmtree(steps.folder / "checkpoints", ignore_errors=True)
                policy = from_pretrained(steps.folder / "policy", device=self.config.device)
            made_from = steps.run("write", made_from, lambda n=number, p=policy: self._write(n, p))
            made_from = steps.run("judge", made_from, lambda n=number: self._embed(n))
            steps.run("measure", made_from, lambda n=number: self._measure(n))
            self.rows.append(_read_json(steps.folder / _MEASURES))
            broken = broken_floors(self.rows[-1], self.rows[0], self.config.floors) if number else []
            self.notes += [f"iteration {number}: {problem}" for problem in broken]
            self._summarize()
            if broken and self.config.on_floor == "stop":
                return DpoResult(self.rows, broken)
        return DpoResult(self.rows)

    # Setting up

    def _judge(self, name: str) -> Judge:
        judge = load_judge(name)
        if isinstance(judge, ModelJudge):
            judge.model.to(self.config.device)
        return judge

    def _prompts(self) -> list[str]:
        given = ["".join(f"%{line}\n" for line in each.split(" / ")) for each in self.config.writing.prompts]
        known = [prompt.text for prompt in model_prompts(self.config.init)]
        return given or list(self.collection.prompts()) or known or [""]

    def _settings(self) -> dict[str, Any]:
        """Return what decides the outputs; models and music count by what they are, wherever they are."""
        settings = asdict(self.config)
        settings["ratings"] = None if self.rated is None else _hash([asdict(self.rated[0]), self.rated[1]])
        for name in (
            "init",
            "scorer",
            "judge",
            "iterations",
            "on_floor",
            "floors",
            "force",
            "device",
            "run_dir",
        ):
            del settings[name]
        del settings["writing"]["batch_size"]
        data = [[asdict(piece) for piece in pieces] for pieces in self._music()]
        return json.loads(
            json.dumps(
                settings
                | {
                    "data": _hash(data),
                    "policy": fingerprint(self.start),
                    "scorer": self.scorer.fingerprint,
                    "other judge": self.judge.fingerprint,
                }
            )
        )

    def _music(self) -> tuple[tuple[ReferencePiece, ...], ...]:
        return self.collection.references, self.collection.held_out, self.collection.others

    def _iteration(self, number: int) -> Path:
        return self.folder / f"iter_{number:02d}"

    def _check_judge(self) -> str:
        """Embed the references, and refuse a blind judge."""
        steps = Steps(self.folder)
        collection = self.collection

        def check() -> None:
            tensors = {}
            for kind, judge in (("scorer", self.scorer), ("judge", self.judge)):
                for name, pieces in (
                    ("references", collection.references),
                    ("held_out", collection.held_out),
                ):
                    tensors[f"{kind}.{name}"] = torch.from_numpy(judge.embed([each.text for each in pieces]))
            save_tensors(self.folder / "references.safetensors", tensors)
            others = [each.text for each in collection.others]
            held_out = [each.text for each in collection.held_out]
            reports = {
                kind: check_judge(
                    judge,
                    held_out,
                    tensors[f"{kind}.references"].numpy(),
                    others=others,
                    nearest=self.config.selection.nearest,
                    seed=self.config.seed,
                )
                for kind, judge in (("scorer", self.scorer), ("judge", self.judge))
            }
            write_json(
                self.folder / "judge.json",
                {kind: report.to_dict() | {"lines": report.lines()} for kind, report in reports.items()},
            )

        made_from = steps.run("check the judge", self._settings(), check)
        report = _read_json(self.folder / "judge.json")["scorer"]
        for line in report["lines"]:
            _say(line)
        if report["blind"]:
            blind = f"the judge {self.scorer.name} is blind: {'; '.join(report['blind'])}"
            if self.rated is not None:
                self.notes.append(f"{blind}; it only reports here")
            elif not self.config.force:
                raise InputError(f"{blind}; force=true trains on it all the same")
            else:
                self.notes.append(f"{blind}; trained all the same (force=true)")
        self.references = {
            name: tensor.numpy()
            for name, tensor in load_tensors(self.folder / "references.safetensors").items()
        }
        return made_from

    # The steps of an iteration

    def _write(self, number: int, policy: NotaGen) -> None:
        """Write the pieces of a policy."""
        config, folder = self.config, self._iteration(number)
        first = mix_seed(config.seed, number)
        requests = [
            Request(self.prompts[i % len(self.prompts)], seed=(first + i) % 2**32)
            for i in range(config.samples)
        ]
        wanted = {name: getattr(config.writing, name) for name in ("top_k", "top_p", "temperature")}
        records, _ = write_pieces(
            policy,
            requests,
            folder / "pieces",
            model_name=f"iteration {number}",
            formats=["abc"],
            sampling=replace(policy.sampling, **{k: v for k, v in wanted.items() if v is not None}),
            limits=Limits(patches=config.writing.max_patches),
            constrained=config.writing.constrained,
            batch_size=config.writing.batch_size,
        )
        originals = folder / "original"
        originals.mkdir(exist_ok=True)
        for record in records:
            with atomic_file(originals / f"{record['seed']}.abc", "w") as file:
                file.write(record["text"])
        with atomic_file(folder / _SAMPLES, "w") as file:
            for record in records:
                about = {name: record[name] for name in ("prompt", "status", "text")}
                file.write(json.dumps({"name": str(record["seed"]), **about}) + "\n")

    def _samples(self, number: int) -> list[dict[str, Any]]:
        lines = (self._iteration(number) / _SAMPLES).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def _path(self, number: int, name: str) -> str:
        """Path of a piece within the run folder."""
        return f"{self._iteration(number).name}/original/{name}.abc"

    def _embed(self, number: int) -> None:
        """Judge the pieces."""
        samples, folder = self._samples(number), self._iteration(number)
        texts = [judged_text(sample["text"]) for sample in samples]
        features = {"scorer": self.scorer.embed(texts), "judge": self.judge.embed(texts)}
        save_tensors(folder / _FEATURES, {name: torch.from_numpy(value) for name, value in features.items()})
        columns = self._scores(features)
        with atomic_file(folder / "scores.csv", "w") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["name", *columns])
            writer.writerows(zip([each["name"] for each in samples], *columns.values(), strict=True))

    def _scores(self, features: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        of, nearest = self.references, self.config.selection.nearest
        return {
            "score": clamp2_scores(features["scorer"], of["scorer.references"], nearest=nearest),
            "held_out_score": clamp2_scores(features["scorer"], of["scorer.held_out"], nearest=nearest),
            "judge_score": clamp2_scores(features["judge"], of["judge.held_out"], nearest=nearest),
        }

    def _features(self, number: int) -> dict[str, np.ndarray]:
        tensors = load_tensors(self._iteration(number) / _FEATURES)
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    def _choose(self, number: int) -> None:
        """Choose among the pieces of the iteration before, or take what a listener chose."""
        preferences = self._selected(number) if self.rated is None else self.rated[0]
        texts = self._texts(number - 1)
        separation = best_separation(*([texts[path] for path in paths] for paths in _sides(preferences)))
        about = {"separation": asdict(separation) | {"suspicious": separation.suspicious}}
        _say(f"best single feature: {separation}")
        if separation.suspicious:
            _say("warning: the policy may learn this feature instead of music; see selection.length_ratio")
        preferences = replace(preferences, metadata=preferences.metadata | about)
        preferences.save(self._iteration(number) / _PREFERENCES)

    def _selected(self, number: int) -> Preferences:
        config, samples, folder = self.config.selection, self._samples(number - 1), self._iteration(number)
        rules = {name: getattr(config, name) for name in asdict(RuleSettings()) if hasattr(config, name)}
        selection = select(
            [
                Sample(
                    sample["name"],
                    self._path(number - 1, sample["name"]),
                    judged_text(sample["text"]),
                    sample["prompt"],
                    len(sample["text"]),
                )
                for sample in samples
            ],
            self._features(number - 1)["scorer"],
            self.references["scorer.references"],
            portion=config.portion,
            nearest=config.nearest,
            rules=RuleSettings(**rules),
            known=self.collection.known,
            reference_names=[piece.name for piece in self.collection.references],
            reference_prompts=[piece.prompt for piece in self.collection.references],
            by_prompt=config.by_prompt,
            length_ratio=config.length_ratio,
        )
        preferences = selection.preferences
        selection.save_report(folder / "preference_report.csv")
        if not preferences.pair_count:
            raise InputError(
                f"no piece of iteration {number - 1} may be chosen; {folder / 'preference_report.csv'} says why"
            )
        return preferences

    def _texts(self, number: int) -> dict[str, str]:
        """Return the text of each piece that may be learned from, by its path in the preferences."""
        if self.rated is not None:
            return self.rated[1]
        return {self._path(number, sample["name"]): sample["text"] for sample in self._samples(number)}

    def _train(self, number: int, policy: NotaGen) -> None:
        """Train the policy of this iteration."""
        config, folder = self.config.training, self._iteration(number)
        config = replace(
            config, trainer=replace(config.trainer, seed=mix_seed(self.config.seed, number) % 2**31)
        )
        result = train_policy(
            policy,
            Preferences.load(folder / _PREFERENCES),
            self._texts(number - 1),
            config,
            folder,
            notes={PROMPTS_FILE: prompt_table(model_prompts(self.config.init))},
        )
        if result.interrupted:
            raise _Interrupted

    def _measure(self, number: int) -> None:
        """Measure the pieces, and write the page of the iteration."""
        samples, features, folder = self._samples(number), self._features(number), self._iteration(number)
        texts = [sample["text"] for sample in samples]
        row: dict[str, Any] = {"iteration": number, **self._judged(features)}
        row |= measure_pieces(
            texts, [each["status"] == "finished" for each in samples], self.collection.known
        )
        if number:
            row |= self._learned(number)
        scores = self._scores(features)
        shown = {
            f"{self.scorer.name} (optimised)": scores["held_out_score"],
            self.judge.name: scores["judge_score"],
        }
        if (missing := write_page(row, shown, samples, folder / "report.html")) is not None:
            _say(missing)
        write_json(folder / _MEASURES, row)

    def _judged(self, features: dict[str, np.ndarray]) -> dict[str, Any]:
        of, nearest = self.references, self.config.selection.nearest
        return {
            "score": scores_of(features["scorer"], of["scorer.references"], nearest),
            "held_out_score": scores_of(features["scorer"], of["scorer.held_out"], nearest),
            "judge_score": scores_of(features["judge"], of["judge.held_out"], nearest),
            "pairwise_cosine": pairwise_cosine(features["scorer"]),
            "pairwise_cosine_judge": pairwise_cosine(features["judge"]),
        }

    def _learned(self, number: int) -> dict[str, Any]:
        """Return what training did to chosen and rejected pieces: log-probability per character, before and after."""
        folder, texts = self._iteration(number), self._texts(number - 1)
        preferences = Preferences.load(folder / _PREFERENCES)
        before = self.start if number == 1 else from_pretrained(self._iteration(number - 1) / "policy")
        after = from_pretrained(folder / "policy")
        row: dict[str, Any] = {"chosen": len(preferences.chosen), "rejected": len(preferences.rejected)}
        for kind, paths in zip(("chosen", "rejected"), _sides(preferences), strict=True):
            crops = [
                torch.tensor(fixed_crops(texts[path], after.config.patch_length, most=1)[0]) for path in paths
            ]
            count = sum(map(characters, crops))
            for name, model in (("_log_probability_before", before), ("_log_probability", after)):
                row[f"{kind}{name}"] = float(reference_log_probabilities(model, crops).sum()) / count
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        last = [json.loads(line) for line in lines[-max(1, len(lines) // 10) :]]
        row |= {
            name: float(np.mean([line[name] for line in last]))
            for name in ("loss", "accuracy", "margin", "penalty")
        }
        row["excluded"] = preferences.metadata.get("excluded", {})
        separation = preferences.metadata["separation"]
        return row | {"best_feature": separation["feature"], "best_feature_auc": separation["auc"]}

    def _summarize(self) -> None:
        """Write the tables, with the held-out references as the last row."""
        held_out = [piece.text for piece in self.collection.held_out]
        features = {kind: self.references[f"{kind}.held_out"] for kind in ("scorer", "judge")}
        # Their scores to themselves would be no measure.
        row = {"iteration": "held-out references", **self._judged(features), "held_out_score": None}
        row["judge_score"] = scores_of(
            features["judge"], self.references["judge.references"], self.config.selection.nearest
        )
        row |= measure_pieces(held_out, [True] * len(held_out), None)
        notes = [f"optimised judge: {self.scorer.name}; other judge: {self.judge.name}"]
        if (nearest := self.config.selection.nearest) is not None:
            notes.append(f"scores are mean cosines with the {nearest} references that are nearest to a piece")
        if self.judge.fingerprint == self.scorer.fingerprint:
            notes[0] += ", the same one, so that it proves nothing; see judge="
        notes += self.notes
        for each in self.rows:
            if each.get("best_feature_auc", 0) > 0.9:
                notes.append(
                    f"iteration {each['iteration']}: {each['best_feature']} alone separates chosen from rejected "
                    f"pieces (area under the curve {each['best_feature_auc']:.3f})"
                )
        write_summary([*self.rows, row], notes, self.folder)


def _sides(preferences: Preferences) -> tuple[tuple[str, ...], tuple[str, ...]]:
    return preferences.chosen, preferences.rejected


def _hash(values: Any) -> str:
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def _read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _say(line: str) -> None:
    print(printable(line))


def main(overrides: Sequence[str]) -> DpoResult:
    """Run with Hydra overrides, such as ``experiment=smoke data.references=scores iterations=2``.

    Raises:
        FloorReached: The run ended at a floor; everything up to there is written.
    """
    config = compose_config("notagen.conf.dpo", overrides, DpoConfig, config_name="dpo")
    make_output_folder(Path(config.run_dir), "run_dir=")
    result = run_iterations(config)
    if result.rows:
        print((Path(config.run_dir) / "summary.md").read_text(encoding="utf-8"))
    if result.stopped:
        raise FloorReached(
            f"{config.run_dir}: stopped after iteration {result.rows[-1]['iteration']}: {'; '.join(result.stopped)}; "
            "on_floor=warn goes on"
        )
    return result
