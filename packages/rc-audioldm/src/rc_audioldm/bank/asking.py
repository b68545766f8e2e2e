"""Ask a bank for the neighbours of texts, recordings or other clips, and write what was found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from pentatonic import audio as audio_files
from pentatonic.checkpoint import atomic_file
from pentatonic.cli import run_manifest
from pentatonic.errors import FormatError, UsageError
from pentatonic.folder_run import write_json
from pentatonic.untrusted.files import read_text
from rc_audioldm.bank.index import build_index, read_choice
from rc_audioldm.bank.neighbours import Centring, find_neighbours, styles_of, write_neighbours
from rc_audioldm.bank.pair_cache import write_pairs
from rc_audioldm.bank.statistics import query_statistics, query_to_style, summary
from rc_audioldm.bank.style_bank import StyleBank
from rc_audioldm.clap.encoder import CAPTIONS, ClapEncoder
from rc_audioldm.licences import terms_of
from rc_audioldm.style.vectors import Weighting

Terms = Literal["any", "known", "commercial", "free"]
_SHOWN = 5
_ALLOWED = {
    "known": ("free", "attribution", "share-alike", "restricted"),
    "commercial": ("free", "attribution", "share-alike"),
    "free": ("free",),
}


def ask_bank(
    bank: StyleBank,
    out: Path,
    *,
    encoder: ClapEncoder | None,
    texts: Sequence[str],
    prompts: Path | None,
    audio: Sequence[Path],
    queries: StyleBank | None,
    auxiliary: StyleBank | None,
    fallback_below: float,
    top_k: int,
    style_of: int,
    weighting: Weighting,
    temperature: float,
    centre: bool,
    terms: Terms,
    pairs: bool,
) -> dict[str, Any]:
    """Write ``neighbors.jsonl``, ``agg_emb.npy``, ``retrieval_stats.json`` and ``run.json``; with pairs, ``pairs`` too.

    Args:
        bank: Where to look.
        out: Folder to write.
        encoder: For texts and recordings.
        texts: Queries.
        prompts: File of further texts.
        audio: Recordings.
        queries: Bank whose clips are queries.
        auxiliary: As for :func:`rc_audioldm.bank.neighbours.find_neighbours`.
        fallback_below: As there.
        top_k: As there.
        style_of: As for :func:`rc_audioldm.bank.neighbours.styles_of`.
        weighting: As there.
        temperature: As there.
        centre: Subtract the mean of the bank from its rows, and from the queries that of their kind.
        terms: Which licences a clip may have.
        pairs: Write the pairs.

    Returns:
        The statistics, and the first neighbours of each query.

    Raises:
        PentatonicError: A query or an option cannot be used.
    """
    lines = [*texts, *([] if prompts is None else read_prompts(prompts))]
    vectors, names, means = _query_vectors(bank, encoder, lines, audio, queries, centre=centre)
    allowed = allowed_rows(bank, terms)
    exact = centre or allowed is not None
    choice = read_choice(Path(bank.where), bank)
    found = find_neighbours(
        *(vectors, names, bank, auxiliary),
        top_k=top_k,
        fallback_below=fallback_below,
        centring=Centring(bank.mean(), means) if centre else None,
        allowed=allowed,
        allowed_auxiliary=None if auxiliary is None else allowed_rows(auxiliary, terms),
        index=None if exact else build_index(bank, choice.kind, seed=choice.seed),
    )
    styles = styles_of(
        found, bank, auxiliary, style_of=style_of, weighting=weighting, temperature=temperature
    )
    write_neighbours(out / "neighbors.jsonl", found)
    with atomic_file(out / "agg_emb.npy") as file:
        np.save(file, styles.vectors)
    rows = query_statistics(found, temperature)
    statistics = {**summary(rows), "query_to_style": query_to_style(vectors, styles.vectors)}
    write_json(out / "retrieval_stats.json", {"summary": statistics, "queries": rows})
    write_json(
        out / "run.json", {"bank": bank.where, "search": "exact" if exact else choice.kind, **run_manifest()}
    )
    if pairs:
        write_pairs(
            *(out / "pairs", found, bank, auxiliary),
            style_of=style_of,
            weighting=weighting,
            temperature=temperature,
        )
    shown = [
        {
            "query": each.query,
            "bank": each.bank,
            "mean_similarity": each.mean_similarity,
            "nearest": [vars(neighbour) for neighbour in each.neighbours[:_SHOWN]],
        }
        for each in found
    ]
    return {"summary": statistics, "queries": shown}


def allowed_rows(bank: StyleBank, terms: Terms) -> np.ndarray | None:
    """Return which rows of a bank have a licence of some terms, ``(N,)`` bool; None where all do."""
    if terms == "any":
        return None
    return np.array([terms_of(clip.licence) in _ALLOWED[terms] for clip in bank.clips])


def read_prompts(path: Path) -> list[str]:
    """Read texts, one on each line; empty lines and those that start with ``#`` do not count.

    Raises:
        FormatError: The file is missing, not UTF-8, or has no texts.
    """
    lines = (line.strip("\ufeff \t\r") for line in read_text(path, error=FormatError).splitlines())
    texts = [line for line in lines if line and not line.startswith("#")]
    if not texts:
        raise FormatError("has no texts", path=path)
    return texts


def _query_vectors(
    bank: StyleBank,
    encoder: ClapEncoder | None,
    texts: Sequence[str],
    audio: Sequence[Path],
    queries: StyleBank | None,
    *,
    centre: bool,
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Vectors (Q, D) and names of queries, and what is subtracted from each of them, (Q, D)."""
    if encoder is None and (texts or audio):
        raise UsageError("texts and audio files need the CLAP model of the bank; give --model")
    if queries is not None and queries.header is not None and bank.header is not None:
        queries.header.require(bank.header, queries.where)
    parts: list[np.ndarray] = []
    means: list[np.ndarray] = []
    names: list[str] = [*texts, *map(str, audio)]
    if encoder is not None and texts:
        own = encoder.embed_text(texts).numpy()
        parts.append(own)
        if centre:
            # Of a fixed set, so that a text has the same neighbours whatever it is asked together with.
            mean = encoder.embed_text(CAPTIONS).numpy().mean(axis=0)
            means.append(np.broadcast_to(mean, own.shape))
    if encoder is not None:
        for path in audio:
            samples = audio_files.load(path, sample_rate=encoder.sample_rate).samples[0]
            parts.append(encoder.embed_audio(samples, encoder.sample_rate).numpy())
    if queries is not None:
        parts.append(queries.rows(range(len(queries))))
        names += [clip.path for clip in queries.clips]
    vectors = np.concatenate(parts)
    if centre and len(vectors) > len(texts):  # recordings lie where the clips of the bank are
        means.append(np.broadcast_to(bank.mean(), (len(vectors) - len(texts), vectors.shape[1])))
    return vectors, names, np.concatenate(means) if means else np.zeros_like(vectors)
