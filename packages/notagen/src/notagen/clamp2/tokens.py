"""Texts as tokens of the text encoder, an XLM-RoBERTa.

Any tokenizer of that shape will do: the start of a text is token 0, padding 1, its end 2, written ``</s>``.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from notagen.clamp2.config import END_TOKEN, PADDING_TOKEN, START_TOKEN
from pentatonic.errors import InputError, MissingExtra, UsageError
from pentatonic.hub import Released, resolve
from pentatonic.untrusted.files import regular_file_size

if TYPE_CHECKING:
    from tokenizers import Tokenizer

SEPARATOR = "</s>"
"""What stands between the lines of a text; one token."""
TOKENIZER_FILE = "tokenizer.json"

_MAX_BYTES = 64 * 2**20
# Its commit hash is not known, so it follows the main branch.
_RELEASED = {
    "FacebookAI/xlm-roberta-base": Released(
        "FacebookAI/xlm-roberta-base", revision="main", licence="MIT", files={TOKENIZER_FILE: None}
    )
}
DEFAULT_TOKENIZER = "FacebookAI/xlm-roberta-base"


class TextTokenizer:
    """Texts to tokens.

    Args:
        name_or_path: ``tokenizer.json``, a directory with it, or the hub id of the released one.

    Raises:
        HubError: There is no such tokenizer.
        InputError: The file is no tokenizer, or one of another family.
        MissingExtra: The package tokenizers is not installed.
    """

    def __init__(self, name_or_path: str | Path = DEFAULT_TOKENIZER) -> None:
        path = Path(name_or_path)
        if not path.is_file():
            path = resolve(name_or_path, released=_RELEASED, allow_patterns=[TOKENIZER_FILE]) / TOKENIZER_FILE
        self._tokenizer = _read(path)
        for token, number in (("<s>", START_TOKEN), ("<pad>", PADDING_TOKEN), (SEPARATOR, END_TOKEN)):
            if self._tokenizer.token_to_id(token) != number:
                found = self._tokenizer.token_to_id(token)
                raise InputError(f"{path}: the token {token} has the number {found}; it must have {number}")

    def __len__(self) -> int:
        return self._tokenizer.get_vocab_size()

    def encode(self, text: str) -> Tensor:
        """Tokens of a text, with start and end: ``(N,)`` int64, N at least 2."""
        return torch.tensor(self._tokenizer.encode(text).ids)

    def encode_lines(self, text: str) -> Tensor:
        """Tokens of a file: its lines once each, without empty ones, in their order, one text.

        The original puts them into an unordered set; files of one line give the same tokens.
        """
        return self.encode(joined(text.splitlines()))


def joined(lines: Iterable[str]) -> str:
    """Lines as one text: repeated and empty ones left out, ``</s>`` between the others."""
    return SEPARATOR.join(dict.fromkeys(line for line in lines if line))


def _read(path: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise MissingExtra("Embedding texts", "notagen[text]") from error
    if (size := regular_file_size(path, error=InputError)) > _MAX_BYTES:
        raise InputError(f"{path} has {size:,} bytes; a tokenizer may have {_MAX_BYTES:,}")
    try:
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text: {error}") from error
    except Exception as error:  # the library raises Exception itself
        raise InputError(f"{path} is no tokenizer: {error}") from error
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def train_tokenizer(texts: Iterable[str], size: int) -> Tokenizer:
    """Train a small tokenizer of this shape, for trying things out without the released one.

    Args:
        texts: What it should be good at.
        size: Most tokens, at least 260.

    Returns:
        The tokenizer; ``save(path)`` writes its ``tokenizer.json``.

    Raises:
        UsageError: ``size`` is too small.
        MissingExtra: The package tokenizers is not installed.
    """
    try:
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
    except ImportError as error:
        raise MissingExtra("Embedding texts", "notagen[text]") from error
    if size < 260:
        raise UsageError(
            f"a tokenizer of {size} tokens; allowed: 260 and more, one for each byte and the special ones"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()  # type: ignore[assignment]
    tokenizer.decoder = decoders.ByteLevel()  # type: ignore[assignment]
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=["<s>", "<pad>", SEPARATOR, "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(  # type: ignore[assignment]
        single=f"<s> $A {SEPARATOR}", special_tokens=[("<s>", START_TOKEN), (SEPARATOR, END_TOKEN)]
    )
    return tokenizer
