"""Options of ``omar-rq probe``; the YAML files are in ``omar_rq/conf/probe``."""

from __future__ import annotations

from dataclasses import dataclass, field

from omegaconf import MISSING

from omar_rq.streaming import DEFAULT_CONTEXT_S


@dataclass
class DataOptions:
    """The data set.

    Args:
        name: Of a data set that ``omar-rq probe --list`` shows for the task; ``labelled`` for your own recordings.
        root: Its folder.
        source: ``folder``, or ``mirdata``, where ``root`` is its folder of data sets; ``auto``: what the data set has.
    """

    name: str = "labelled"
    root: str = MISSING
    source: str = "auto"


@dataclass
class FeatureOptions:
    """What is read of the encoder.

    Args:
        layers: As ``--layers`` of ``omar-rq embed``; of several the weights are learned.
        context_s: Seconds that attention looks back; null: all.
        chunk_s: Embed chunks of so many seconds alone, as the original does; null: whole recordings. Not for answers
            for each token.
        overlap: Share of a chunk that the next one repeats.
        last_chunk_ratio: A rest that is longer than this share of a chunk becomes one.
        half: Store features of tokens as float16.
    """

    layers: str = "all"
    context_s: float | None = DEFAULT_CONTEXT_S
    chunk_s: float | None = None
    overlap: float = 0.5
    last_chunk_ratio: float = 0.1
    half: bool = True


@dataclass
class HeadOptions:
    """How heads are built, see :class:`omar_rq.probing.heads.HeadConfig`.

    Args:
        pooling: ``mean``, ``mean+std`` or ``attention``; not for answers for each token.
        model: ``linear`` or ``mlp``.
        hidden: Units of the hidden layer of an MLP.
        dropout: Before each layer of an MLP.
        context: Neighbours on each side of a token that are seen; for answers for each token.
    """

    pooling: str = "mean"
    model: str = "linear"
    hidden: int = 512
    dropout: float = 0.2
    context: int = 0


@dataclass
class FitOptions:
    """How heads are fitted: AdamW, warm-up, then down half a cosine.

    Args:
        steps: Optimizer steps.
        batch_size: Recordings of a step: a random chunk of each, or a random crop of tokens.
        crop_s: Seconds of a crop of tokens.
        learning_rates: All are tried; the validation split chooses.
        weight_decay: Decoupled decay.
        warmup_steps: Steps until the highest learning rate.
        min_lr: The learning rate at the end.
        loss: ``auto``: cross entropy of classes; ``binary``: binary cross entropy of each class, as the original does.
        eval_every: Steps between two looks at the validation split, which chooses the step.
        patience: Looks without improvement that end a fit; null: never.
        chunks: ``all``: the mean of the logits of all chunks; ``first``: of the first, as the original tests.
    """

    steps: int = 2000
    batch_size: int = 32
    crop_s: float = 20.0
    learning_rates: list[float] = field(default_factory=lambda: [1e-3])
    weight_decay: float = 1e-2
    warmup_steps: int = 50
    min_lr: float = 1e-7
    loss: str = "auto"
    eval_every: int = 100
    patience: int | None = 10
    chunks: str = "all"


@dataclass
class ProbeConfig:
    """Everything that decides a result.

    Args:
        task: Set by ``task=...``.
        model: Bundled name, directory, run folder or hub id of the encoder.
        data: The data set.
        features: What is read of the encoder.
        head: How heads are built.
        fit: How they are fitted.
        seeds: Fits with different initial weights and orders.
        baselines: Also fit heads to log-mel spectrograms and to the network with random weights.
        untrained_seed: Of those random weights.
        resamples: Bootstrap draws of the groups of test recordings.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        store_dir: Where features are kept, for all tasks.
        run_dir: Where the probe and the results are written.
    """

    task: str = MISSING
    model: str = "omar-rq-tiny"
    data: DataOptions = field(default_factory=DataOptions)
    features: FeatureOptions = field(default_factory=FeatureOptions)
    head: HeadOptions = field(default_factory=HeadOptions)
    fit: FitOptions = field(default_factory=FitOptions)
    seeds: int = 3
    baselines: bool = True
    untrained_seed: int = 0
    resamples: int = 1000
    device: str = "auto"
    store_dir: str = "runs/omar-rq/probe-features"
    run_dir: str = "runs/omar-rq/probe"
