"""Tokenizers of CLAP and T5, loaded without code of their folder and checked before they are used.

Some versions of transformers lose the merges of a byte-pair encoding and then split text into single characters,
without an error; every vector of a text is then wrong.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pentatonic.errors import CheckpointError, ConfigError
from pentatonic.untrusted.files import read_json

_MAX_BYTES = 64 * 2**20
_PHRASE = "Hello world"
_ROBERTA_SIZE = 50265
_ROBERTA_IDS = [0, 31414, 232, 2]


def load_tokenizer(folder: Path) -> Any:
    """Load the tokenizer of a folder.

    Raises:
        CheckpointError: The folder is missing, or its tokenizer does not pass :func:`check_tokenizer`.
        ConfigError: A file cannot be read, or names code to run.
    """
    from transformers import AutoTokenizer

    if not folder.is_dir():
        raise CheckpointError(f"{folder}: is missing")
    for file in sorted(folder.glob("*.json")):
        values = read_json(file, max_bytes=_MAX_BYTES)
        if isinstance(values, dict) and values.get("auto_map"):
            raise ConfigError(
                f"{file}: auto_map names code to run; only the classes of the libraries are used"
            )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # parsers raise errors of any kind for malformed files
        reason = " ".join(str(error).split())[:300]
        raise ConfigError(f"{folder}: the tokenizer cannot be read: {reason}") from error
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
    if 0 < len(ids) < len(_PHRASE) and (len(tokenizer) != _ROBERTA_SIZE or whole == _ROBERTA_IDS):
        return
    first = ", ".join(map(str, whole[:12]))
    raise CheckpointError(
        f"{where}: the tokenizer turns {_PHRASE!r} into {len(ids)} tokens ({first}): its merges are lost, as in "
        "transformers 5.0 to 5.16; install transformers 5.17 or later, or give tokenizer files that are complete"
    )
