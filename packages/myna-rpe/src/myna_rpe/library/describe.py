"""What ``myna-rpe library info`` shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from myna_rpe.library.library import Library

_ARTISTS_SHOWN = 20


def describe(library: Library, *, artists: bool = False) -> dict[str, Any]:
    """Describe a library.

    Args:
        library: The library.
        artists: Also count how often each artist appears among the ten tracks nearest to each track.

    Returns:
        JSON values: ``folders``, ``model``, ``vectors`` (their header), ``tracks``, ``comparable``, ``hours``,
        ``files``, ``flagged``, ``failed``, ``repaired``, ``duplicates``, ``hubs``, ``artists``.
    """
    tracks = library.tracks
    groups = {track.group for track in tracks if track.group}
    return {
        "folders": library.settings.folders,
        "model": library.settings.model,
        "vectors": asdict(library.header),
        "tracks": len(tracks),
        "comparable": len(library.vectors),
        "hours": sum(track.duration_s for track in tracks) / 3600,
        "files": sum(1 + len(track.copies) for track in tracks) + len(library.failures),
        "flagged": {str(track.path): list(track.flags) for track in tracks if track.flags},
        "failed": {path: failure.reason for path, failure in library.failures.items()},
        "repaired": {str(track.path): list(track.repairs) for track in tracks if track.repairs},
        "duplicates": {"groups": len(groups), **library.measures.get("duplicates", {})},
        "hubs": library.measures.get("hubs", {}),
        **({"artists": library.artist_counts()} if artists else {}),
    }


def description_lines(about: dict[str, Any]) -> Sequence[str]:
    """Return :func:`describe` as lines for people."""
    vectors, duplicates, hubs = about["vectors"], about["duplicates"], about["hubs"]
    lines = [
        f"folders     {', '.join(about['folders'])}",
        f"model       {about['model']} ({vectors['model_hash'][:12]}; {vectors['frontend']}, {vectors['windows']}, "
        f"{vectors['pooling']}, {vectors['dimension']} numbers)",
        f"tracks      {about['tracks']} in {about['files']} files, {about['hours']:.1f} hours; "
        f"{about['comparable']} can be compared",
    ]
    if "threshold" in duplicates:
        lines.append(
            f"duplicates  {duplicates['groups']} groups; threshold {duplicates['threshold']:.3f} by "
            f"{duplicates['pairs']} pairs of neighbours"
        )
    if hubs:
        lines.append(
            f"hubs        skew of the {hubs['k']}-occurrence {hubs['skew_before']:.2f} by plain cosine, "
            f"{hubs['skew_after']:.2f} corrected; the largest hub is in {hubs['largest_before']} and "
            f"{hubs['largest_after']} of the lists"
        )
    for name in ("flagged", "repaired"):
        lines += [f"{name:<12}{path}: {'; '.join(texts)}" for path, texts in about[name].items()]
    lines += [f"{'failed':<12}{path}: {reason}" for path, reason in about["failed"].items()]
    if "artists" in about:
        shown = list(about["artists"].items())[:_ARTISTS_SHOWN]
        lines += [f"{'artist':<12}{count:>6} of {about['comparable']} lists  {name}" for name, count in shown]
    return lines
