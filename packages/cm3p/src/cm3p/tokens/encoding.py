"""What tokenizers and the processor return, and the padding of sequences.

Shapes: B sequences, L tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from pentatonic.errors import UsageError

if TYPE_CHECKING:
    pass


class Encoding(dict[str, Any]):
    """A dictionary of model inputs whose entries are attributes as well, as the encodings of transformers are."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def to(self, *args: Any, **kwargs: Any) -> Self:
        """Move tensors, in place. A dtype in ``args`` or ``kwargs`` applies to floating-point tensors alone.

        Args:
            args: As ``torch.Tensor.to``.
            kwargs: As ``torch.Tensor.to``.
        """
        import torch

        dtype = kwargs.pop("dtype", None) or next((arg for arg in args if isinstance(arg, torch.dtype)), None)
        args = tuple(arg for arg in args if not isinstance(arg, torch.dtype))
        for name, value in self.items():
            if isinstance(value, torch.Tensor):
                cast = {"dtype": dtype} if dtype is not None and value.is_floating_point() else {}
                self[name] = value.to(*args, **kwargs, **cast) if args or kwargs or cast else value
        return self


def encode_batch(
    sequences: Sequence[Sequence[int]],
    pad_token_id: int,
    *,
    padding: bool | str | None = False,
    truncation: bool | str | None = False,
    max_length: int | None = None,
    return_tensors: str | None = None,
) -> Encoding:
    """Truncate, pad and stack sequences of ids; both happen on the right.

    Args:
        sequences: B lists of ids.
        pad_token_id: Id to pad with.
        padding: True or ``"longest"``: to the longest sequence; ``"max_length"``: to ``max_length``; False or
            ``"do_not_pad"``: not.
        truncation: True or ``"longest_first"``: to ``max_length``; False or ``"do_not_truncate"``: not.
        max_length: Most tokens per sequence.
        return_tensors: ``"pt"`` for torch tensors, ``"np"`` for arrays, None for lists.

    Returns:
        ``input_ids`` and ``attention_mask``, (B, L) or lists.

    Raises:
        UsageError: An option is unknown, needs ``max_length``, or the sequences differ in length and are not padded.
    """
    padding, truncation = padding_strategy(padding), truncation_strategy(truncation)
    if "max_length" in (padding, truncation) and max_length is None:
        raise UsageError("padding or truncation to max_length needs max_length")
    if truncation is not None:
        sequences = [ids[:max_length] for ids in sequences]
    longest = max(map(len, sequences), default=0)
    length = {"max_length": max_length, "longest": longest, None: None}[padding]
    masks = [[1] * len(ids) for ids in sequences]
    if length is not None:
        sequences = [[*ids, *([pad_token_id] * (length - len(ids)))] for ids in sequences]
        masks = [mask + [0] * (length - len(mask)) for mask in masks]
    encoding = Encoding(input_ids=[list(ids) for ids in sequences], attention_mask=masks)
    return to_tensors(encoding, return_tensors)


def padding_strategy(padding: bool | str | None) -> str | None:
    """Return ``"longest"``, ``"max_length"`` or None for the forms that transformers accepts.

    Raises:
        UsageError: It is none of them.
    """
    return _strategy(
        "padding", padding, {"longest": "longest", "max_length": "max_length", "do_not_pad": None}
    )


def truncation_strategy(truncation: bool | str | None) -> str | None:
    """Return ``"max_length"`` or None for the forms that transformers accepts.

    Raises:
        UsageError: It is none of them.
    """
    allowed = {"longest_first": "max_length", "only_first": "max_length", "do_not_truncate": None}
    return _strategy("truncation", truncation, allowed)


def _strategy(name: str, value: bool | str | None, allowed: dict[str, str | None]) -> str | None:
    if value is None or value is False:
        return None
    if value is True:
        return next(iter(allowed.values()))
    text = str(getattr(value, "value", value))
    if text not in allowed:
        raise UsageError(f"{name} is {value!r}; allowed: true, false, {', '.join(allowed)}")
    return allowed[text]


def to_tensors(encoding: Encoding, return_tensors: str | None) -> Encoding:
    """Turn the lists of an encoding into tensors of integers.

    Args:
        encoding: Lists of equal lengths.
        return_tensors: ``"pt"``, ``"np"`` or None.

    Raises:
        UsageError: Another kind of tensor, or sequences of different lengths.
    """
    if return_tensors is None:
        return encoding
    if return_tensors not in ("pt", "np"):
        raise UsageError(f"return_tensors is {return_tensors!r}; allowed: pt, np, none")
    import numpy as np

    try:
        arrays = {name: np.array(value, dtype=np.int64) for name, value in encoding.items()}
    except ValueError:
        raise UsageError("sequences of different lengths need padding to become a tensor") from None
    if return_tensors == "np":
        return Encoding(arrays)
    import torch

    return Encoding({name: torch.from_numpy(array) for name, array in arrays.items()})


def empty_encoding(*shape: int, return_tensors: str | None = None) -> Encoding:
    """Return ``input_ids`` and ``attention_mask`` without elements: tensors of ``shape``, or empty lists."""
    if return_tensors is None:
        return Encoding(input_ids=[], attention_mask=[])
    import torch

    return Encoding(
        input_ids=torch.zeros(shape, dtype=torch.int64), attention_mask=torch.zeros(shape, dtype=torch.int64)
    )
