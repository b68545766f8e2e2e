"""What the page shows of a clip, as HTML without scripts: sounds, pictures and files are in it."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

from rc_audioldm.app.studio import Made, Source
from rc_audioldm.knob.dose_response import Curve, curves
from rc_audioldm.ledger.verdict import Verdict
from rc_audioldm.run_report.page import MEASURES
from rc_audioldm.run_report.plots import spectrogram

_VERDICTS: dict[Verdict, str] = {
    "publishable": "This clip may be published and sold.",
    "non-commercial": "This clip may be shared, but not used commercially.",
    "unknown": "What may be done with this clip is not known.",
}
_ROLES = {
    "retrieved": "near to what was asked for",
    "reference": "your reference",
    "start": "the clip starts from it",
    "words": "its labels were added to the prompt",
}
_STRENGTH_WORDS = {0.0: "0", 0.5: "½", 1.0: "1"}


def clip_html(made: Made) -> str:
    """Return the player, the spectrogram, the downloads, and how the clip was made."""
    result = made.result
    facts = [
        f"heard as “{result.prompt_used}”" if result.prompt_used != result.request.prompt else "",
        _cosine("like the prompt", result.clap_text),
        _cosine("like the style", result.clap_style),
    ]
    about = " · ".join(fact for fact in facts if fact)
    note = f'<p class="about">{html.escape(about)}</p>' if about else ""
    copies = "".join(f'<p class="warning">The clip {html.escape(each)}.</p>' for each in made.copies)
    levels = "".join(f'<p class="about">The clip {html.escape(each)}.</p>' for each in made.levels)
    return (
        f"{_player('the clip', made.wav, 'audio/wav')}"
        f'<img alt="Waveform and spectrogram" src="{_data_url("image/png", _picture(made))}">'
        f"{copies}{levels}{note}<p>Download "
        f"{_download('clip.wav', 'audio/wav', made.wav, 'WAV with its ledger inside')}"
        f"{_download('clip.ledger.json', 'application/json', made.sidecar, 'ledger as JSON')}</p>"
    )


def ledger_html(made: Made) -> str:
    """Return the verdict in words, the clips that shaped this one, and the lines of attribution."""
    judgement = made.ledger.judgement
    notes = "".join(f"<li>{html.escape(note)}</li>" for note in judgement.notes)
    credit = ""
    if judgement.attribution:
        lines = html.escape("\n".join(judgement.attribution))
        credit = f"<h4>Attribution, ready to paste</h4><pre>{lines}</pre>"
    return (
        f'<p class="verdict {judgement.verdict}">{_VERDICTS[judgement.verdict]}</p>'
        f"<p>{html.escape(judgement.reason)}. This is no legal advice.</p><ul>{notes}</ul>"
        f"<h4>What shaped it</h4>{_sources_html(made.sources)}{credit}"
    )


def comparison_html(made: Made) -> str:
    """Return players of the same noise at each strength, and how alike each is to the style."""
    if not made.strengths:
        return "<p>The strengths 0, ½ and 1 of one style, side by side, come here.</p>"
    players = "".join(
        f"<td>{_player(f'strength {_words(strength)}', sound, 'audio/wav')}</td>"
        for strength, sound in sorted(made.strengths.items())
    )
    heads = "".join(f"<th>strength {_words(strength)}</th>" for strength in sorted(made.strengths))
    return (
        "<p>The same noise at each strength. Likenesses to the reference should rise; 1 is the same.</p>"
        f"<table><tr><th></th>{heads}<th></th></tr><tr><th></th>{players}<td></td></tr>{_likenesses(made)}</table>"
    )


def _likenesses(made: Made) -> str:
    """A row for each measure, with the shape of its curve."""
    if made.likeness is None:
        return "<tr><th></th><td colspan=4>No clip of the style could be read, so nothing was measured.</td></tr>"
    return "".join(
        f"<tr><th>{html.escape(MEASURES[curve.measure])}</th>"
        f"{''.join(f'<td>{mean.value:.3f}</td>' for mean in curve.means)}<td>{_course(curve)}</td></tr>"
        for curve in curves([made.likeness])
    )


def _course(curve: Curve) -> str:
    if curve.shape != "monotone":
        return html.escape(curve.shape)
    return "rises" if curve.total.value > 0 else "falls"


def reference_html(name: str, seconds: float) -> str:
    """Return what is said of a reference that was read."""
    return f"<p>Reference: <b>{html.escape(name)}</b>, {seconds:.1f} s</p>"


def message_html(text: str, kind: str = "") -> str:
    """Return a sentence for the status."""
    return f'<p class="{html.escape(kind)}">{html.escape(text)}</p>'


def _sources_html(sources: Sequence[Source]) -> str:
    if not sources:
        return "<p>The prompt and the model alone: no clip shaped it.</p>"
    rows = "".join(
        f"<tr><td>{html.escape(each.influence.clip)}<br><small>{_ROLES[each.influence.role]}"
        f"{_cosine(', likeness', each.influence.similarity, ' ')}</small></td>"
        f"<td>{each.influence.weight:.0%}</td><td>{html.escape(each.influence.licence)}</td>"
        f"<td>{_source_player(each)}</td></tr>"
        for each in sources
    )
    return f"<table><tr><th>Clip</th><th>Weight</th><th>Licence</th><th>Sound</th></tr>{rows}</table>"


def _source_player(source: Source) -> str:
    if source.sound is None:
        return "<small>cannot be played</small>"
    return _player(source.influence.clip, source.sound, "audio/mpeg")


def _player(label: str, sound: bytes, media_type: str) -> str:
    return f'<audio controls aria-label="{html.escape(label)}" src="{_data_url(media_type, sound)}"></audio>'


def _download(name: str, media_type: str, content: bytes, label: str) -> str:
    return f'<a download="{name}" href="{_data_url(media_type, content)}">{label}</a> '


def _picture(made: Made) -> bytes:
    buffer = io.BytesIO()
    figure = spectrogram(made.result.audio.numpy(), made.result.sample_rate)
    figure.savefig(buffer, format="png", dpi=130, bbox_inches="tight", metadata={"Software": None})
    return buffer.getvalue()


def _cosine(words: str, value: float | None, between: str = ": ") -> str:
    return "" if value is None else f"{words}{between}{value:.2f}"


def _words(strength: float) -> str:
    return _STRENGTH_WORDS.get(strength, f"{strength:g}")


def _data_url(media_type: str, content: bytes) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"
