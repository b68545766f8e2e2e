"""An encoder with everything that decides its vectors: how files become patches or tokens, and what it computes.

Shapes: N patches or tokens of a piece, S = 64 characters, C width, P width of a feature, n pieces.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from notagen.clamp2.features import music_features, music_frames, text_features, text_frames
from notagen.clamp2.model import MUSIC_ONLY, Clamp
from notagen.clamp2.mtf import Keep
from notagen.clamp2.patches import encode, is_mtf
from notagen.clamp2.reading import MIDI_SUFFIXES, Preparation, decode_text, read_content, read_music
from notagen.clamp2.tokens import DEFAULT_TOKENIZER, TOKENIZER_FILE, TextTokenizer
from notagen.clamp2.weights import find, from_pretrained
from notagen.files.reading import is_musicxml
from pentatonic.errors import FormatError, IncompatibleVectors, UsageError
from pentatonic.folder_run import fingerprint
from pentatonic.precision import number_type_name
from pentatonic.search import VectorHeader

Kind = Literal["abc", "mtf", "midi", "musicxml", "text"]

TEXT_SUFFIXES = (".txt",)
POOLING = "mean of windows weighted by what they add"


@dataclass(frozen=True)
class EmbedOptions:
    """How files become what an encoder reads.

    Args:
        preparation: How ABC that is not interleaved, and MusicXML, becomes interleaved.
        as_is: Embed any text as it is; see :func:`notagen.clamp2.reading.music_texts`.
        drop_unit_length: Leave out ``L:1/8``; None: with CLaMP 3, as its original does.
    """

    preparation: Preparation = "clamp2"
    as_is: bool = False
    drop_unit_length: bool | None = None

    def for_family(self, family: str) -> EmbedOptions:
        """Return the same options with ``drop_unit_length`` decided."""
        dropped = family == "clamp3" if self.drop_unit_length is None else self.drop_unit_length
        return replace(self, drop_unit_length=dropped)

    def frontend(self, family: str) -> str:
        """Say in the header of stored vectors what the encoder was given."""
        decided = self.for_family(family)
        words = [family, f"{self.preparation} preparation"]
        words += ["texts as they are"] * self.as_is + ["without L:1/8"] * bool(decided.drop_unit_length)
        return ", ".join(words)


def stored_options(header: VectorHeader, where: str) -> EmbedOptions:
    """Return the options that stored vectors were made with, so that a query can be made alike.

    Raises:
        IncompatibleVectors: They are not vectors of an encoder of this family.
    """
    for preparation, as_is, dropped in product(get_args(Preparation), (False, True), (False, True)):
        options = EmbedOptions(preparation, as_is, dropped)
        if any(options.frontend(family) == header.frontend for family in ("clamp2", "clamp3")):
            return options
    raise IncompatibleVectors(f"{where}: its vectors are of {header.frontend!r}, not of CLaMP 2 or 3")


@dataclass(frozen=True)
class EncodedPiece:
    """A piece or a text as the encoder reads it.

    Args:
        name: Its number in a tune book; empty for the only piece of a file.
        ids: ``(N, S)`` int64 patches of music, or ``(N,)`` int64 tokens of a text.
        notes: What was passed over.
    """

    name: str
    ids: Tensor
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class EncodedFile:
    """The pieces of a file.

    Args:
        kind: What it is.
        digest: SHA-256 of its content.
        pieces: Those that can be embedded.
        failures: Why others of a tune book cannot.
    """

    kind: Kind
    digest: str
    pieces: tuple[EncodedPiece, ...]
    failures: tuple[str, ...] = ()

    @property
    def length(self) -> int:
        """Patches and tokens in all."""
        return sum(len(piece.ids) for piece in self.pieces)


class Embedder:
    """An encoder with its options.

    Args:
        model: CLaMP 2 or 3, in evaluation mode.
        options: How files become what it reads.
        tokenizer: For texts; needed where the model has a text encoder that is to be used.
        model_hash: Hash of the model in float32; that of ``model`` if not given.

    Attributes:
        header: What the features are, for stores of them.
    """

    def __init__(
        self,
        model: Clamp,
        options: EmbedOptions = EmbedOptions(),
        tokenizer: TextTokenizer | None = None,
        *,
        model_hash: str | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        self.family = model.config.family
        self.options = options.for_family(self.family)
        self.header = VectorHeader(
            model_hash=model_hash or model_fingerprint(model),
            frontend=options.frontend(self.family),
            windows=f"{model.config.music.length} patches",
            pooling=POOLING,
            dimension=model.config.projection,
        )

    @property
    def embeds_texts(self) -> bool:
        """Whether texts can be embedded, beside music."""
        return self.model.config.text is not None and self.tokenizer is not None

    @property
    def precision(self) -> str:
        """Number type of the computation, such as ``fp32``."""
        return number_type_name(self.model.music.embed_bias.dtype)

    def encode_file(self, path: Path, data: bytes | None = None) -> EncodedFile:
        """Read a file: ``.txt`` as a text, anything else as music.

        Args:
            path: The file.
            data: Its content, if it is read already.

        Raises:
            InputError: It cannot be read, or is not what its suffix says; the message names it. Of a tune book, only
                where no tune can be embedded.
            UsageError: It is a text, and the model has no text encoder.
        """
        data = read_content(path) if data is None else data
        digest = sha256(data).hexdigest()
        if path.suffix.lower() in TEXT_SUFFIXES:
            return EncodedFile("text", digest, (self._encoded_text(path, data),))
        keep: Keep = "m3" if self.family == "clamp2" else "clamp3"
        texts = read_music(
            path, data, preparation=self.options.preparation, as_is=self.options.as_is, keep=keep
        )
        pieces, failures = [], []
        for each in texts:
            try:
                if each.error is not None:
                    raise each.error
                pieces.append(EncodedPiece(each.name, self.encode_music(each.text), each.notes))
            except FormatError as error:
                if len(texts) == 1:
                    raise FormatError(error.reason, path=path, line=error.line) from error
                failures.append(f"tune {each.name}: {error.reason}")
        if not pieces:
            raise FormatError(f"no tune of the book can be embedded: {'; '.join(failures)}", path=path)
        return EncodedFile(_kind(path.suffix, texts[0].text), digest, tuple(pieces), tuple(failures))

    def encode_music(self, text: str) -> Tensor:
        """Cut interleaved ABC or MTF into ``(N, S)`` int64 patches.

        Raises:
            FormatError: As for :func:`notagen.clamp2.patches.encode`.
        """
        dropped = bool(self.options.drop_unit_length)
        return torch.from_numpy(encode(text, special=True, drop_unit_length=dropped)).long()

    def features(self, files: Sequence[EncodedFile]) -> list[list[np.ndarray]]:
        """Feature of each piece of each file: ``(1, P)`` float32, the form of the original's files."""

        def compute(pieces: Sequence[Tensor], of: Callable[..., Tensor]) -> list[np.ndarray]:
            return [row[None].numpy() for row in of(self.model, pieces)]

        return self._each(
            files, lambda pieces: compute(pieces, music_features), lambda texts: compute(texts, text_features)
        )

    def frames(self, files: Sequence[EncodedFile]) -> list[list[np.ndarray]]:
        """Vector of each patch or token of each piece of each file: ``(1, N, C)`` float32."""

        def compute(pieces: Sequence[Tensor], of: Callable[..., list[Tensor]]) -> list[np.ndarray]:
            return [rows[None].numpy() for rows in of(self.model, pieces)]

        return self._each(
            files, lambda pieces: compute(pieces, music_frames), lambda texts: compute(texts, text_frames)
        )

    def text_features(self, texts: Sequence[str]) -> np.ndarray:
        """Features of texts: ``(n, P)`` float32.

        Raises:
            UsageError: The model has no text encoder, or there are no texts.
        """
        tokenizer = self._text_tokenizer()
        return text_features(self.model, [tokenizer.encode_lines(text) for text in texts]).numpy()

    def _encoded_text(self, path: Path, data: bytes) -> EncodedPiece:
        tokenizer = self._text_tokenizer()
        try:
            return EncodedPiece("", tokenizer.encode_lines(decode_text(data)))
        except FormatError as error:
            raise FormatError(error.reason, path=path, line=error.line) from error

    def _text_tokenizer(self) -> TextTokenizer:
        if self.model.config.text is None:
            raise UsageError(MUSIC_ONLY)
        if self.tokenizer is None:
            raise UsageError("texts need a tokenizer")
        return self.tokenizer

    def _each(
        self,
        files: Sequence[EncodedFile],
        of_music: Callable[[Sequence[Tensor]], list[np.ndarray]],
        of_texts: Callable[[Sequence[Tensor]], list[np.ndarray]],
    ) -> list[list[np.ndarray]]:
        """Compute music and texts apart, each in as few calls as possible, and return them by files."""

        def computed(
            of: Callable[[Sequence[Tensor]], list[np.ndarray]], *, texts: bool
        ) -> Iterator[np.ndarray]:
            chosen = [piece.ids for file in files if (file.kind == "text") == texts for piece in file.pieces]
            return iter(of(chosen) if chosen else [])

        results = {texts: computed(of_texts if texts else of_music, texts=texts) for texts in (False, True)}
        return [[next(results[file.kind == "text"]) for _ in file.pieces] for file in files]


def load_embedder(
    name: str | Path,
    options: EmbedOptions = EmbedOptions(),
    *,
    texts: bool = True,
    tokenizer: str | Path | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    revision: str | None = None,
) -> Embedder:
    """Load an encoder by name or path.

    Args:
        name: As for :func:`notagen.clamp2.weights.from_pretrained`.
        options: How files become what it reads.
        texts: Load its text encoder too, if it has one.
        tokenizer: Of the text encoder; None: that beside the model, or else the released one.
        device: Device of the model.
        dtype: Number type of the computation.
        revision: Branch, tag or commit of the hub.

    Raises:
        PentatonicError: As for :func:`from_pretrained` and :class:`notagen.clamp2.tokens.TextTokenizer`.
    """
    model = from_pretrained(name, revision, music_only=not texts)
    found = None
    if model.config.text is not None:
        found = TextTokenizer(tokenizer or _tokenizer_beside(find(name, revision)))
        if len(found) > model.config.text.vocabulary:
            raise UsageError(
                f"the tokenizer has {len(found)} tokens, and the model knows {model.config.text.vocabulary}; it is "
                "that of another model"
            )
    known = model_fingerprint(model)  # of float32, so that the number type makes no other model of it
    return Embedder(model.to(device=device, dtype=dtype), options, found, model_hash=known)


def model_fingerprint(model: Clamp) -> str:
    """Return the SHA-256 of a model's music encoder, whether or not its other encoders are loaded."""
    kept: dict[str, Any] = {
        key: tensor
        for key, tensor in model.state_dict().items()
        if key.startswith(("music.", "music_projection."))
    }
    return fingerprint(replace(model.config, text=None, audio=None), kept)


def _tokenizer_beside(path: Path) -> Path | str:
    beside = (path if path.is_dir() else path.parent) / TOKENIZER_FILE
    return beside if beside.is_file() else DEFAULT_TOKENIZER


def _kind(suffix: str, text: str) -> Kind:
    if suffix.lower() in MIDI_SUFFIXES:
        return "midi"
    if is_musicxml(suffix):
        return "musicxml"
    return "mtf" if is_mtf(text) else "abc"
