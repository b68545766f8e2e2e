"""An encoder with everything that decides its vectors: how files become patches or tokens, and what it computes.

Shapes: N patches or tokens of a piece, S = 64 characters, C width, P width of a feature, n pieces.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from notagen.clamp2.features import music_features, music_frames, text_features, text_frames
from notagen.clamp2.model import M3, MUSIC_ONLY, Clamp
from notagen.clamp2.mtf import Keep
from notagen.clamp2.patches import encode, is_mtf
from notagen.clamp2.reading import MIDI_SUFFIXES, Preparation, decode_text, read_content, read_music
from notagen.clamp2.tokens import DEFAULT_TOKENIZER, TOKENIZER_FILE, TextTokenizer
from notagen.clamp2.weights import find, load_encoder
from notagen.files.reading import is_musicxml
from pentatonic.errors import FormatError, IncompatibleVectors, UsageError
from pentatonic.folder_run import fingerprint
from pentatonic.precision import number_type_name
from pentatonic.search import VectorHeader

Output = Literal["features", "frames"]
Kind = Literal["abc", "mtf", "midi", "musicxml", "text"]

TEXT_SUFFIXES = (".txt",)
POOLING = "mean of windows weighted by what they add"
FAMILIES = ("clamp2", "clamp3", "m3", "ngrams")
"""What encodes; the first word of what the header of stored vectors says of what was given to it."""


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
        if any(options.frontend(family) == header.frontend for family in FAMILIES):
            return options
    raise IncompatibleVectors(
        f"{where}: its vectors are of {header.frontend!r}, not of {', '.join(FAMILIES)}, which this package embeds with"
    )


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


class Encoder(ABC):
    """Something that turns files into vectors, with the options that decide which.

    Args:
        family: One of :data:`FAMILIES`.
        options: How files become what it reads.
        header: What the features are, for stores of them.
        outputs: What it can compute.
        embeds_texts: Whether texts can be embedded, beside music.
        precision: Number type of the computation.
    """

    def __init__(
        self,
        family: str,
        options: EmbedOptions,
        header: VectorHeader,
        *,
        outputs: tuple[Output, ...] = get_args(Output),
        embeds_texts: bool = False,
        precision: str = "fp32",
    ) -> None:
        self.family, self.header = family, header
        self.options = options.for_family(family)
        self.embeds_texts, self.precision = embeds_texts, precision
        self._outputs = outputs

    def require(self, output: Output) -> None:
        """Refuse what this encoder cannot compute.

        Raises:
            UsageError: It cannot.
        """
        if output not in self._outputs:
            advice = "give --frames" if output == "features" else "leave --frames out"
            raise UsageError(f"{self.family} has no {output} of a piece, only {self._outputs[0]}; {advice}")

    @abstractmethod
    def encode_music(self, text: str) -> Tensor:
        """Turn interleaved ABC or MTF into what is read of it: rows of int64.

        Raises:
            FormatError: It cannot be read.
        """

    @abstractmethod
    def compute(self, files: Sequence[EncodedFile], output: Output) -> list[list[np.ndarray]]:
        """Vectors of each piece of each file, float32, in the form of the original's files.

        Args:
            files: As :meth:`encode_file` reads them.
            output: ``features``: of the whole piece, ``(1, P)``; ``frames``: of each patch or token, ``(1, N, C)``.

        Raises:
            UsageError: As for :meth:`require`.
        """

    def text_features(self, texts: Sequence[str]) -> np.ndarray:
        """Features of texts: ``(n, P)`` float32.

        Raises:
            UsageError: It does not embed texts, or there are none.
        """
        raise UsageError(f"{self.family} embeds music only: it has no text encoder")

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
        keep: Keep = "clamp3" if self.family == "clamp3" else "m3"
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

    def _encoded_text(self, path: Path, data: bytes) -> EncodedPiece:
        """Read a text file.

        Raises:
            FormatError: It is not UTF-8.
            UsageError: Texts are not embedded.
        """
        raise UsageError(f"{self.family} embeds music only: it has no text encoder")


class Embedder(Encoder):
    """A model with its options.

    Args:
        model: CLaMP 2 or 3, or M3, which has frames only; in evaluation mode.
        options: How files become what it reads.
        tokenizer: For texts; needed where the model has a text encoder that is to be used.
        model_hash: Hash of the model in float32; that of ``model`` if not given.
    """

    def __init__(
        self,
        model: Clamp | M3,
        options: EmbedOptions = EmbedOptions(),
        tokenizer: TextTokenizer | None = None,
        *,
        model_hash: str | None = None,
    ) -> None:
        self.model, self.tokenizer = model, tokenizer
        clamp = model if isinstance(model, Clamp) else None
        family = "m3" if clamp is None else clamp.config.family
        music = model.config.encoder if isinstance(model, M3) else model.config.music
        super().__init__(
            family,
            options,
            VectorHeader(
                model_hash=model_hash or model_fingerprint(model),
                frontend=options.frontend(family),
                windows=f"{music.length} patches",
                pooling="none" if clamp is None else POOLING,
                dimension=music.width if clamp is None else clamp.config.projection,
            ),
            outputs=("frames",) if clamp is None else get_args(Output),
            embeds_texts=clamp is not None and clamp.config.text is not None and tokenizer is not None,
            precision=number_type_name(next(model.parameters()).dtype),
        )

    def encode_music(self, text: str) -> Tensor:
        """Cut interleaved ABC or MTF into ``(N, S)`` int64 patches.

        Raises:
            FormatError: As for :func:`notagen.clamp2.patches.encode`.
        """
        dropped = bool(self.options.drop_unit_length)
        return torch.from_numpy(encode(text, special=True, drop_unit_length=dropped)).long()

    def compute(self, files: Sequence[EncodedFile], output: Output) -> list[list[np.ndarray]]:
        """Features or frames of each piece of each file; see :meth:`Encoder.compute`.

        Raises:
            UsageError: The model is M3, which has frames only.
        """
        self.require(output)

        def vectors(ids: Sequence[Tensor], *, texts: bool) -> Iterable[Tensor]:
            if output == "frames" and not texts:
                return music_frames(self.model, ids)
            assert isinstance(self.model, Clamp), "required above"
            if output == "frames":
                return text_frames(self.model, ids)
            return (text_features if texts else music_features)(self.model, ids)

        def computed(*, texts: bool) -> Iterator[np.ndarray]:
            # Music and texts apart, each in as few calls as possible.
            chosen = [piece.ids for file in files if (file.kind == "text") == texts for piece in file.pieces]
            return (each[None].numpy() for each in (vectors(chosen, texts=texts) if chosen else ()))

        results = {texts: computed(texts=texts) for texts in (False, True)}
        return [[next(results[file.kind == "text"]) for _ in file.pieces] for file in files]

    def text_features(self, texts: Sequence[str]) -> np.ndarray:
        """Features of texts: ``(n, P)`` float32.

        Raises:
            UsageError: The model has no text encoder, or there are no texts.
        """
        model, tokenizer = self._text_encoder()
        return text_features(model, [tokenizer.encode_lines(text) for text in texts]).numpy()

    def _encoded_text(self, path: Path, data: bytes) -> EncodedPiece:
        _, tokenizer = self._text_encoder()
        try:
            return EncodedPiece("", tokenizer.encode_lines(decode_text(data)))
        except FormatError as error:
            raise FormatError(error.reason, path=path, line=error.line) from error

    def _text_encoder(self) -> tuple[Clamp, TextTokenizer]:
        if isinstance(self.model, M3) or self.model.config.text is None:
            raise UsageError(MUSIC_ONLY)
        if self.tokenizer is None:
            raise UsageError("texts need a tokenizer")
        return self.model, self.tokenizer


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
    """Load a model by name or path.

    Args:
        name: As for :func:`notagen.clamp2.weights.load_encoder`.
        options: How files become what it reads.
        texts: Load its text encoder too, if it has one.
        tokenizer: Of the text encoder; None: that beside the model, or else the released one.
        device: Device of the model.
        dtype: Number type of the computation.
        revision: Branch, tag or commit of the hub.

    Raises:
        PentatonicError: As for :func:`load_encoder` and :class:`notagen.clamp2.tokens.TextTokenizer`.
    """
    model = load_encoder(name, revision, music_only=not texts)
    found = None
    if isinstance(model, Clamp) and model.config.text is not None:
        found = TextTokenizer(tokenizer or _tokenizer_beside(find(name, revision)))
        if len(found) > model.config.text.vocabulary:
            raise UsageError(
                f"the tokenizer has {len(found)} tokens, and the model knows {model.config.text.vocabulary}; it is "
                "that of another model"
            )
    known = model_fingerprint(model)  # of float32, so that the number type makes no other model of it
    return Embedder(model.to(device=device, dtype=dtype), options, found, model_hash=known)


def model_fingerprint(model: Clamp | M3) -> str:
    """Return the SHA-256 of a model's music encoder, whether or not its other parts are loaded."""
    if isinstance(model, M3):
        return fingerprint(model.config.encoder, model.encoder.state_dict())
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
