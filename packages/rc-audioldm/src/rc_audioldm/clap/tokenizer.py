"""Tokenizers that are checked before they are used.

Some versions of transformers lose the merges of a byte-pair encoding and then split text into single characters,
without an error; every vector of a text is then wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pentatonic.errors import CheckpointError

_PHRASE = "Hello world"
_ROBERTA_SIZE = 50265
_ROBERTA_IDS = [0, 31414, 232, 2]


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a folder, without code of the folder.

    Raises:
        CheckpointError: There is none, or it does not pass :func:`check_tokenizer`.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except Exception as error:  # of any layer below
        reason = " ".join(str(error).split())[:300]
        raise CheckpointError(
            f"{folder}: its tokenizer cannot be loaded ({type(error).__name__}: {reason})"
        ) from error
    check_tokenizer(tokenizer, str(folder))
    return tokenizer


def check_tokenizer(tokenizer: Any, where: str) -> None:
    """Refuse a tokenizer that splits text into single characters.

    Args:
        tokenizer: Of transformers.
        where: Its folder, for the message.

    Raises:
        CheckpointError: It gives as many tokens as there are characters, or is RoBERTa's and gives other ids.
    """
    ids = list(tokenizer(_PHRASE, add_special_tokens=False)["input_ids"])
    whole = list(tokenizer(_PHRASE)["input_ids"])
    if len(ids) < len(_PHRASE) and (len(tokenizer) != _ROBERTA_SIZE or whole == _ROBERTA_IDS):
        return
    first = ", ".join(map(str, whole[:12]))
    raise CheckpointError(
        f"{where}: the tokenizer turns {_PHRASE!r} into {len(ids)} tokens ({first}): its merges are lost, as in "
        "transformers 5.0 to 5.16; install transformers 5.17 or later, or give tokenizer files that are complete"
    )
