"""What both tokenizers share: a vocabulary, special tokens, and the files of the original's layout.

A folder holds ``vocab.json`` (base token to id), ``tokenizer_config.json`` (options and special tokens) and
``special_tokens_map.json``. Ids always come from the stored files where there are any: vocabularies of the original
give some tags and special tokens the same id.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, overload

from cm3p.stored import read_json_object, write_json
from cm3p.tokens.encoding import Encoding, encode_batch
from pentatonic.errors import ConfigError

VOCABULARY_FILE, CONFIG_FILE, SPECIAL_TOKENS_FILE = (
    "vocab.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_UNLIMITED_LENGTH = int(1e30)  # what transformers writes for "no limit"


class Tokenizer(ABC):
    """Vocabulary, special tokens and files of a tokenizer.

    Args:
        options: Values of the constructor's options, as they are written to the configuration.
        base_vocabulary: Tokens to ids, without special tokens.
        special_token_ids: Ids of the special tokens; None appends them to the base vocabulary.
        stored_config: Configuration file that the tokenizer was loaded from; keys that mean nothing here are kept.
    """

    special_tokens: ClassVar[Mapping[str, str]]
    """Attribute, such as ``bos_token``, to token."""
    additional_special_tokens: ClassVar[Sequence[str]]
    special_token_order: ClassVar[Sequence[str]]
    """All special tokens, in the order of their ids in a new vocabulary."""

    def __init__(
        self,
        options: Mapping[str, Any],
        base_vocabulary: Mapping[str, int],
        special_token_ids: Mapping[str, int] | None,
        stored_config: Mapping[str, Any] | None = None,
    ) -> None:
        self.options = dict(options)
        self.vocab = dict(base_vocabulary)
        if special_token_ids is None:
            special_token_ids = {
                token: len(self.vocab) + index for index, token in enumerate(self.special_token_order)
            }
        self.added_tokens = dict(special_token_ids)
        for token in self.special_token_order:
            if token not in self.added_tokens:
                raise ConfigError(f"{CONFIG_FILE}: added_tokens_decoder lacks the special token {token}")
        self._ids = {**self.vocab, **self.added_tokens}
        self._tokens = {index: token for token, index in self._ids.items()}
        self._tokens.update({index: token for token, index in self.added_tokens.items()})
        ignored = {"added_tokens_decoder", "auto_map", *self.options}
        self._stored_config = {
            key: value for key, value in (stored_config or {}).items() if key not in ignored
        }
        for attribute, token in self.special_tokens.items():
            setattr(self, attribute, token)
            setattr(self, f"{attribute}_id", self.added_tokens[token])

    bos_token: str
    bos_token_id: int
    eos_token: str
    eos_token_id: int
    pad_token: str
    pad_token_id: int
    cls_token: str
    cls_token_id: int

    @property
    def vocab_size(self) -> int:
        """Rows that an embedding of all ids needs, special tokens included."""
        return max(len(self), max(self._tokens) + 1)

    def __len__(self) -> int:
        return len(self.vocab) + len(self.added_tokens)

    @property
    def all_special_tokens(self) -> list[str]:
        """The special tokens, in the order of their ids."""
        return sorted(self.added_tokens, key=self.added_tokens.__getitem__)

    @property
    def all_special_ids(self) -> list[int]:
        """Ids of the special tokens, ascending."""
        return sorted(self.added_tokens.values())

    @property
    def special_tokens_map(self) -> dict[str, Any]:
        """Attribute to token, as ``special_tokens_map.json`` has it."""
        return {
            "additional_special_tokens": list(self.additional_special_tokens),
            **{name: token for name, token in self.special_tokens.items() if not name.startswith("audio_")},
        }

    def get_vocab(self) -> dict[str, int]:
        """Return all tokens with their ids, special tokens included."""
        return dict(self._ids)

    @overload
    def convert_tokens_to_ids(self, tokens: str) -> int | None: ...
    @overload
    def convert_tokens_to_ids(self, tokens: list[str]) -> list[int | None]: ...
    def convert_tokens_to_ids(self, tokens: str | list[str]) -> int | list[int | None] | None:
        """Return the id of a token, or of several; None for a token that is not in the vocabulary."""
        if isinstance(tokens, str):
            return self._ids.get(tokens)
        return [self._ids.get(token) for token in tokens]

    @overload
    def convert_ids_to_tokens(self, ids: int) -> str: ...
    @overload
    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]: ...
    def convert_ids_to_tokens(self, ids: int | Iterable[int]) -> str | list[str]:
        """Return the token of an id, or of several; ``[UNK]`` for an id that is not in the vocabulary."""
        if isinstance(ids, Iterable):
            return [self._tokens.get(int(index), "[UNK]") for index in ids]
        return self._tokens.get(int(ids), "[UNK]")

    def decode(self, token_ids: int | Iterable[int], skip_special_tokens: bool = False) -> str:
        """Return the tokens of a sequence, separated by spaces.

        Args:
            token_ids: (L,) ids; a list, an array or a tensor.
            skip_special_tokens: Leave out padding, ``[BOS]`` and the like.
        """
        ids = token_ids if isinstance(token_ids, Iterable) else [token_ids]
        tokens = self.convert_ids_to_tokens(ids)
        return " ".join(token for token in tokens if not (skip_special_tokens and token in self.added_tokens))

    def batch_decode(
        self, sequences: Iterable[Iterable[int]], skip_special_tokens: bool = False
    ) -> list[str]:
        """Return :meth:`decode` of every sequence."""
        return [self.decode(ids, skip_special_tokens) for ids in sequences]

    def pad(self, sequences: Sequence[Sequence[int]], **kwargs: Any) -> Encoding:
        """Truncate, pad and stack sequences of ids; arguments as :func:`~cm3p.tokens.encoding.encode_batch`."""
        return encode_batch(sequences, self.pad_token_id, **kwargs)

    def to_dict(self) -> dict[str, Any]:
        """The content of ``tokenizer_config.json``."""
        content = {
            "lstrip": False,
            "normalized": False,
            "rstrip": False,
            "single_word": False,
            "special": True,
        }
        return {
            "clean_up_tokenization_spaces": False,
            "extra_special_tokens": {},
            "model_max_length": _UNLIMITED_LENGTH,
            "processor_class": "CM3PProcessor",
            **self._stored_config,
            **self.options,
            **self.special_tokens_map,
            "added_tokens_decoder": {
                str(index): {"content": token, **content} for token, index in self.added_tokens.items()
            },
            "tokenizer_class": type(self).__name__,
        }

    def save_pretrained(self, save_directory: str | Path, **kwargs: Any) -> list[str]:
        """Write the three files into a folder, which is made if it is missing.

        Args:
            save_directory: The folder.
            kwargs: Options of transformers' method; they change nothing.

        Returns:
            Paths of the files.
        """
        folder = Path(save_directory)
        write_json(folder / CONFIG_FILE, self.to_dict())
        write_json(folder / SPECIAL_TOKENS_FILE, self.special_tokens_map)
        write_json(folder / VOCABULARY_FILE, self.vocab, compact=True)
        return [str(folder / name) for name in (CONFIG_FILE, SPECIAL_TOKENS_FILE, VOCABULARY_FILE)]

    @classmethod
    def from_pretrained(cls, directory: str | Path, *, subfolder: str = "") -> Self:
        """Read a tokenizer from the folder that :meth:`save_pretrained`, or the original, wrote.

        Args:
            directory: A folder on this machine.
            subfolder: Folder inside it, such as ``beatmap_tokenizer``.

        Raises:
            ConfigError: A file is missing or does not fit.
        """
        folder = Path(directory) / subfolder
        config = read_json_object(folder / CONFIG_FILE)
        vocabulary = read_json_object(folder / VOCABULARY_FILE)
        if not all(isinstance(index, int) and index >= 0 for index in vocabulary.values()):
            raise ConfigError(f"{folder / VOCABULARY_FILE}: ids must be whole numbers from 0")
        try:
            special = {
                str(item["content"]): int(index) for index, item in config["added_tokens_decoder"].items()
            }
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ConfigError(
                f"{folder / CONFIG_FILE}: added_tokens_decoder must map ids to tokens"
            ) from None
        return cls._from_stored(config, vocabulary, special)

    @classmethod
    @abstractmethod
    def _from_stored(
        cls, config: dict[str, Any], vocabulary: dict[str, int], special_token_ids: dict[str, int]
    ) -> Self:
        """Build a tokenizer from the content of its files."""
