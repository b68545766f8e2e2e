"""``omar-rq export --format onnx|torch``: the encoder as a graph in a file, waveform in, embeddings out.

The folder gets ``model.onnx`` (from two gigabytes on with ``model.onnx.data``) or ``model.pt2``, and a model card. The
facts that a program needs to feed the graph are in the file itself; :func:`graph_facts` lists them.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from omar_rq import __version__
from omar_rq.embed import fingerprint
from omar_rq.export.card import model_card
from omar_rq.export.graph import EncoderGraph
from omar_rq.model import OmarRQ
from omar_rq.weights import from_pretrained
from pentatonic.checkpoint import atomic_directory
from pentatonic.errors import CheckpointError, MissingExtra, UsageError
from pentatonic.model_card import read_training

GRAPH_FORMATS = ("onnx", "torch")
FACTS_FILE = "facts.json"  # inside model.pt2
# Largest difference to the model, on noise, before anything is written.
_TOLERANCE = 1e-4

_EXAMPLES = {
    "onnx": """
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
print(session.get_modelmeta().custom_metadata_map)
audio = np.zeros((1, {samples}), np.float32)  # (batch, samples): mono, {sample_rate} Hz, in [-1, 1]
(embeddings,) = session.run(None, {{"audio": audio}})
print(embeddings.shape)  # (layers, batch, tokens, {width})
""",
    "torch": """
import torch

model = torch.export.load("model.pt2").module()
audio = torch.zeros(1, {samples})  # (batch, samples): mono, {sample_rate} Hz, in [-1, 1]
print(model(audio).shape)  # (layers, batch, tokens, {width})
""",
}


def export_graph(
    source: str | Path,
    out: str | Path,
    *,
    format: str = "onnx",
    layers: int | Iterable[int] | Literal["all"] | None = None,
) -> Path:
    """Write the encoder of a model, front end included, as a graph for signals of any length and any batch.

    All rows of a batch have the same length, and nothing in the graph checks the samples. The result on noise is
    compared with the model's before the folder appears.

    Args:
        source: Whatever :func:`omar_rq.from_pretrained` loads; a model with mel or waveform input and a conformer.
        out: Folder to write; replaced as a whole.
        format: ``onnx`` or ``torch`` (:func:`torch.export.load` reads it).
        layers: Indices of trunk blocks, negative ones from the end; ``"all"``; ``None``: the last. The
            output has them ascending; blocks after the highest one are left out.

    Returns:
        ``out``.

    Raises:
        UsageError: Unknown format.
        MissingExtra: ``onnx`` without ``omar-rq[onnx]``.
        ConfigError: The model is of a kind that has no graph.
        LayerIndexError: A layer is out of range.
        CheckpointError: The folder cannot be written, or the graph does not give what the model gives.
        HubError, ConfigError, WeightsError: There is no usable model at ``source``.
    """
    if format not in GRAPH_FORMATS:
        raise UsageError(f"format is {format!r}; allowed: {', '.join(GRAPH_FORMATS)}")
    if format == "onnx":
        _import_onnx()  # fail fast
    out, model = Path(out), from_pretrained(source)
    depth = len(model.trunk.blocks)
    graph = EncoderGraph(model, range(depth) if layers == "all" else layers).eval().requires_grad_(False)
    facts = graph_facts(model, graph.layers, name=Path(source).name)
    card = model_card(
        model,
        read_training(source),
        name=out.name,
        example=_EXAMPLES[format].format(
            samples=model.sample_rate, sample_rate=model.sample_rate, width=model.config.net.embed_dim
        ),
    )
    with atomic_directory(out) as folder, _quiet():
        (_write_onnx if format == "onnx" else _write_torch)(graph, facts, folder)
        (folder / "README.md").write_text(card, encoding="utf-8")
        _compare(model, graph.layers, folder)
    return out


def graph_facts(model: OmarRQ, layers: Iterable[int], *, name: str) -> dict[str, str]:
    """Return what a file of a graph says about it.

    Returns:
        ``model`` (its name), ``model_sha256`` (configuration and weights, as ``run.json`` of ``omar-rq embed`` has it),
        ``sample_rate`` in Hz, ``hop_length`` in samples, ``embedding_rate_hz``, ``min_samples`` (for two tokens),
        ``layers`` (their indices, as JSON), ``width``, ``input`` and ``output`` (axes), and ``made_with``.
    """
    shortest = model.frontend.min_samples
    while model.n_tokens(shortest) < 2:
        shortest += 1
    return {
        "model": name,
        "model_sha256": fingerprint(model),
        "sample_rate": str(model.sample_rate),
        "hop_length": str(model.hop_length),
        "embedding_rate_hz": str(model.embedding_rate_hz),
        "min_samples": str(shortest),
        "layers": json.dumps(list(layers)),
        "width": str(model.config.net.embed_dim),
        "input": "audio (batch, samples) float32, mono, in [-1, 1]",
        "output": "embeddings (layers, batch, tokens, width) float32",
        "made_with": f"omar-rq {__version__}, torch {torch.__version__}",
    }


def exported_program(graph: EncoderGraph, sample_rate: int) -> torch.export.ExportedProgram:
    """Trace the graph, with both axes of the input free."""
    example = torch.zeros(2, 2 * sample_rate)
    free = torch.export.Dim.DYNAMIC
    return torch.export.export(graph, (example,), dynamic_shapes=({0: free, 1: free},), strict=False)


def _write_torch(graph: EncoderGraph, facts: dict[str, str], folder: Path) -> None:
    program = exported_program(graph, int(facts["sample_rate"]))
    torch.export.save(program, folder / "model.pt2", extra_files={FACTS_FILE: json.dumps(facts, indent=1)})


def _write_onnx(graph: EncoderGraph, facts: dict[str, str], folder: Path) -> None:
    program = torch.onnx.export(
        exported_program(graph, int(facts["sample_rate"])),
        dynamo=True,
        input_names=["audio"],
        output_names=["embeddings"],
        verbose=False,
    )
    assert program is not None
    names = (*program.model.graph.inputs, *program.model.graph.outputs)
    for value, axes in zip(names, (("batch", "samples"), (None, "batch", "tokens", None)), strict=True):
        assert value.shape is not None
        for axis, word in enumerate(axes):
            if word is not None:
                value.shape[axis] = word
    program.model.metadata_props.update(facts)
    program.save(folder / "model.onnx")


def _compare(model: OmarRQ, layers: list[int], folder: Path) -> None:
    """Raise a CheckpointError unless the written file gives what the model gives."""
    audio = 0.1 * torch.randn(3, model.sample_rate + 77, generator=torch.Generator().manual_seed(0))
    expected = model.extract_embeddings(audio, layers, sample_rate=model.sample_rate)
    difference = float((_run(folder, audio) - expected).abs().max())
    if not difference <= _TOLERANCE * max(1.0, float(expected.abs().max())):
        raise CheckpointError(
            f"the exported graph differs from the model by {difference:g}; nothing was written"
        )


def _run(folder: Path, audio: Tensor) -> Tensor:
    if (folder / "model.pt2").is_file():
        with torch.inference_mode():
            return torch.export.load(folder / "model.pt2").module()(audio)
    session = _import_onnx().InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    return torch.from_numpy(np.asarray(session.run(None, {"audio": audio.numpy()})[0]))


def _import_onnx() -> Any:
    """Return onnxruntime, after a check that the exporter's libraries are there too."""
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise MissingExtra("Exporting to ONNX", "omar-rq[onnx]") from error
    return onnxruntime


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says of its own old calls, and of libraries that it does not need."""
    logger = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.filterwarnings("ignore", "The given buffer is not writable", UserWarning)
            yield
    finally:
        logger.setLevel(level)
