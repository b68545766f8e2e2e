"""Find a model's directory by its name, and translate the tensor names of other projects into ours.

A name is looked up in this order: small models that come with a package, paths, released models on the Hugging Face
hub. Nothing is fetched from the hub without a revision, and no fetched file is ever executed.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TypeVar

from torch import Tensor, nn

from pentatonic.checkpoint import file_sha256
from pentatonic.errors import CorruptCheckpoint, HubError, UsageError, WeightsError
from pentatonic.untrusted.files import local_path, shortened

T = TypeVar("T")
_Rules = list[tuple[re.Pattern[str], str]]

OWN_LICENCE = "Apache-2.0"
"""Licence of the models that come with the packages."""

_REPO_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", re.ASCII)
_PLACEHOLDER = re.compile(r"\{([A-Za-z_]\w*)\}")
_MOST_NAMED = 10
_LONGEST_NAMED = 400


@dataclass(frozen=True)
class Released:
    """A model that its authors published on the hub.

    Args:
        repo_id: ``organisation/name``.
        revision: Commit hash, so that the files never change.
        licence: Licence of the weights, as an SPDX identifier.
        files: Name of each file that is needed, to its SHA-256 in lower-case hexadecimal, or None where that is not
            known.
    """

    repo_id: str
    revision: str
    licence: str
    files: Mapping[str, str | None] = field(default_factory=dict)


def resolve(
    name_or_path: str | Path,
    *,
    bundled: Mapping[str, Path] = MappingProxyType({}),
    released: Mapping[str, Released] = MappingProxyType({}),
    allow_patterns: Sequence[str],
    revision: str | None = None,
) -> Path:
    """Find the directory of a model, and fetch it from the hub if need be.

    Args:
        name_or_path: Name of a bundled model, a directory, a file in one, name or hub id of a released model, or the
            hub id of another repository.
        bundled: Name to directory of the models that come with the package.
        released: Name or hub id to released model.
        allow_patterns: File name patterns to fetch from the hub; they should cover the files of released models.
        revision: Commit hash, tag or branch on the hub, instead of the one of the released model. Required for
            repositories that are not in ``released``, so that a mistyped path never becomes a download. Ignored
            for local models.

    Returns:
        An existing directory.

    Raises:
        HubError: There is no such model, it cannot be fetched (among other reasons because the hub is switched off
            by ``HF_HUB_OFFLINE=1`` and the cache does not have it), or a file is missing from it.
        CorruptCheckpoint: A fetched file has another SHA-256 than the released one.
    """
    name = str(name_or_path)
    if name in bundled:
        if not bundled[name].is_dir():
            raise HubError(
                f"the bundled model {name!r} is missing at {bundled[name]}; install the package again"
            )
        return bundled[name]
    if (path := local_path(name_or_path)) is not None:
        return path if path.is_dir() else path.parent
    model = released.get(name) or next((item for item in released.values() if item.repo_id == name), None)
    if model is not None and revision in (None, model.revision):
        return _checked(_download(model.repo_id, model.revision, allow_patterns), model.files)
    if revision is not None and (model is not None or _is_hub_id(name_or_path)):
        return _download(model.repo_id if model else name, revision, allow_patterns)
    hint = (
        "; to fetch it from the hub, give a revision (commit hash, tag or branch)"
        if _is_hub_id(name_or_path)
        else ""
    )
    raise HubError(
        f"there is no model {name!r}: no path {name} was found; bundled models: {_listed(bundled)}; "
        f"released models: {_listed(released)}{hint}"
    )


def known_models(*, bundled: Mapping[str, Path], released: Mapping[str, Released]) -> list[dict[str, str]]:
    """List the models that a package knows by name.

    Args:
        bundled: As for :func:`resolve`.
        released: As for :func:`resolve`.

    Returns:
        For each one ``model``, ``kind`` (``bundled`` or ``released``) and ``licence``.
    """
    kinds = {name: "bundled" for name in bundled} | {name: "released" for name in released}
    return [
        {"model": name, "kind": kind, "licence": licence_of(name, bundled=bundled, released=released)}
        for name, kind in kinds.items()
    ]


def licence_of(name: str, *, bundled: Mapping[str, Path], released: Mapping[str, Released]) -> str:
    """Return the licence of a model's weights; ``not stated`` for a model that is not known by name.

    Args:
        name: Name of the model.
        bundled: As for :func:`resolve`.
        released: As for :func:`resolve`.
    """
    if name in bundled:
        return OWN_LICENCE
    return released[name].licence if name in released else "not stated"


def push(directory: str | Path, repo_id: str, *, private: bool = True) -> str:
    """Upload a model directory to the hub, in one commit; the repository is created if it does not exist.

    The login is that of the hub's own client (``hf auth login`` or the variable ``HF_TOKEN``).

    Args:
        directory: Directory to upload, with all its files.
        repo_id: ``owner/name``.
        private: Whether a repository that this call creates is private; an existing one stays as it is.

    Returns:
        Address of the repository.

    Raises:
        HubError: ``repo_id`` does not have this form, there is no such directory, or the hub refuses or cannot be
            reached.
    """
    from huggingface_hub import HfApi

    if not _is_hub_id(repo_id) or "/" not in repo_id:
        raise HubError(f"{repo_id!r} is not a repository id (owner/name)")
    if not Path(directory).is_dir():
        raise HubError(f"{directory}: no such directory")
    try:
        api = HfApi()
        address = api.create_repo(repo_id, private=private, exist_ok=True)
        api.upload_folder(repo_id=repo_id, folder_path=str(directory), commit_message="Upload model")
    except Exception as error:  # the client raises errors of any layer below it
        reason = " ".join(str(error).split())[:300]
        raise HubError(f"cannot push to {repo_id} ({type(error).__name__}: {reason})") from error
    return str(address)


def _is_hub_id(name_or_path: str | Path) -> bool:
    return isinstance(name_or_path, str) and _REPO_ID.fullmatch(name_or_path) is not None


def _download(repo_id: str, revision: str, allow_patterns: Sequence[str]) -> Path:
    from huggingface_hub import snapshot_download

    try:
        directory = Path(snapshot_download(repo_id, revision=revision, allow_patterns=list(allow_patterns)))
    except Exception as error:  # the client raises errors of any layer below it
        reason = " ".join(str(error).split())[:300]
        raise HubError(
            f"cannot fetch {repo_id} at revision {revision} from the hub ({type(error).__name__}: {reason}); check the "
            "name and the network, or download the files and give their directory"
        ) from error
    if not any(path.is_file() for path in directory.rglob("*")):
        raise HubError(f"{repo_id} at revision {revision} has none of the files {', '.join(allow_patterns)}")
    return directory


def _checked(directory: Path, files: Mapping[str, str | None]) -> Path:
    for name, sha256 in files.items():
        path = directory / name
        if not path.is_file():
            raise HubError(f"{path} is missing from the files fetched from the hub")
        if sha256 is not None and file_sha256(path) != sha256:
            raise CorruptCheckpoint(
                f"{path}: the content differs from the released file: its SHA-256 is not {sha256}; delete it to "
                "fetch it again"
            )
    return directory


class KeyMap:
    """Translation between our tensor names and those of another project, in both directions.

    A rule is a pair of patterns, ours and theirs. ``{i}`` matches one or more characters but no dot, and both patterns
    of a rule hold the same placeholders::

        KeyMap([("trunk.{i}.norm.{p}", "net.layers.{i}.norm1.{p}")], drop=["linear.*"])

    A key must fit exactly one rule in each direction, so no two keys ever get the same name.

    Args:
        rules: Pairs ``(ours, theirs)``.
        drop: Patterns of their keys that have no counterpart in our model; here, ``*`` matches anything, dots too.
            They take precedence over the rules.

    Raises:
        UsageError: A rule's patterns differ in their placeholders, or a pattern occurs twice or is malformed.
    """

    def __init__(self, rules: Sequence[tuple[str, str]], *, drop: Sequence[str] = ()) -> None:
        for ours, theirs in rules:
            if set(_PLACEHOLDER.findall(ours)) != set(_PLACEHOLDER.findall(theirs)):
                raise UsageError(f"the rule {ours!r}, {theirs!r} needs the same placeholders on both sides")
        for side in zip(*rules, strict=True):
            if repeated := {pattern for pattern in side if side.count(pattern) > 1}:
                raise UsageError(f"the pattern {min(repeated)!r} occurs in more than one rule")
        self._to_ours = [(_compiled(theirs), ours) for ours, theirs in rules]
        self._to_theirs = [(_compiled(ours), theirs) for ours, theirs in rules]
        self._drop = [_compiled(pattern, wildcard=True) for pattern in drop]

    def our_key(self, key: str) -> str | None:
        """Our name of their ``key``, or None where it is dropped.

        Raises:
            WeightsError: No rule fits, or more than one.
        """
        if any(pattern.fullmatch(key) for pattern in self._drop):
            return None
        return _translated(key, self._to_ours, self._to_theirs)

    def their_key(self, key: str) -> str:
        """Their name of our ``key``.

        Raises:
            WeightsError: No rule fits, or more than one.
        """
        return _translated(key, self._to_theirs, self._to_ours)

    def to_ours(self, tensors: Mapping[str, T]) -> dict[str, T]:
        """Rename the keys of their state dict; dropped ones are left out.

        Raises:
            WeightsError: There are keys that no rule fits; they are named.
        """
        return _renamed(tensors, self.our_key)

    def to_theirs(self, tensors: Mapping[str, T]) -> dict[str, T]:
        """Rename the keys of our state dict.

        Raises:
            WeightsError: There are keys that no rule fits; they are named.
        """
        return _renamed(tensors, self.their_key)


def check_state(module: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Compare tensors with the parameters and persistent buffers of a module, which may be on the meta device.

    Args:
        module: The model.
        tensors: Name to tensor, exactly the names of ``module.state_dict()``.
        what: Origin of the tensors, for the error message.

    Raises:
        WeightsError: Names are missing or unexpected, or shapes or dtypes do not fit. Up to ten names of each kind are
            listed.
    """
    expected = module.state_dict()
    common = expected.keys() & tensors.keys()
    _raise_problems(
        what,
        {
            "missing": expected.keys() - tensors.keys(),
            "unexpected": tensors.keys() - expected.keys(),
            "of another shape": [
                f"{name} {tuple(tensors[name].shape)} for {tuple(expected[name].shape)}"
                for name in common
                if tensors[name].shape != expected[name].shape
            ],
            "of another type": [
                f"{name} {tensors[name].dtype} for {expected[name].dtype}"
                for name in common
                if not _can_cast(tensors[name], expected[name])
            ],
        },
    )


def load_state(module: nn.Module, tensors: Mapping[str, Tensor], *, what: str) -> None:
    """Set all parameters and persistent buffers of a module, after checking that they all fit.

    Values are copied into the module's own tensors, whose device and dtype stay. A module that was built on the meta
    device adopts the given tensors instead, in its dtypes and on their devices. Floating point values are cast to
    the module's floating point dtype; any other difference of dtype is an error. Non-persistent buffers are not
    touched, so they must not be on the meta device: build what holds them on a real one.

    Args:
        module: The model.
        tensors: Name to tensor, exactly the names of ``module.state_dict()``.
        what: Origin of the tensors, for the error message.

    Raises:
        WeightsError: Names are missing or unexpected, shapes or dtypes do not fit, or a parameter or buffer of the
            module is still on the meta device afterwards. Up to ten names of each kind are listed.
    """
    expected = module.state_dict()
    check_state(module, tensors, what=what)
    if any(tensor.is_meta for tensor in expected.values()):
        _assign(module, {name: tensors[name].to(expected[name].dtype) for name in expected})
    else:
        module.load_state_dict(tensors)
    state = [*module.named_parameters(), *module.named_buffers()]
    _raise_problems(
        what, {"without values, still on the meta device": [name for name, item in state if item.is_meta]}
    )


def _can_cast(given: Tensor, expected: Tensor) -> bool:
    return given.dtype == expected.dtype or (given.is_floating_point() and expected.is_floating_point())


def _assign(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Replace parameters and buffers; parameters that were shared between modules stay shared."""
    shared = defaultdict(list)
    for name, parameter in module.named_parameters(remove_duplicate=False):
        shared[parameter].append(name)
    module.load_state_dict(tensors, assign=True)
    for first, *others in shared.values():
        for name in others:
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, module.get_parameter(first))


def _raise_problems(what: str, problems: Mapping[str, Iterable[str]]) -> None:
    found = [f"{kind}: {_listed(names)}" for kind, names in problems.items() if names]
    if found:
        raise WeightsError(f"{what} does not fit the model: {'; '.join(found)}")


def _listed(names: Iterable[str]) -> str:
    ordered = sorted(names)
    more = f" and {len(ordered) - _MOST_NAMED} more" if len(ordered) > _MOST_NAMED else ""
    shown = [name if len(name) <= _LONGEST_NAMED else shortened(name) for name in ordered[:_MOST_NAMED]]
    return (", ".join(shown) or "none") + more


def _compiled(pattern: str, *, wildcard: bool = False) -> re.Pattern[str]:
    regex, seen = "", set()
    for part in re.split(r"(\{\w+\}|\*)", pattern):
        if placeholder := _PLACEHOLDER.fullmatch(part):
            name = placeholder[1]
            regex += f"(?P={name})" if name in seen else f"(?P<{name}>[^.]+)"
            seen.add(name)
        elif part == "*" and wildcard:
            regex += ".*"
        elif re.search(r"[{}*]", part):
            raise UsageError(
                f"the pattern {pattern!r} has a stray {part!r}; allowed: names and placeholders such as {{i}}"
            )
        else:
            regex += re.escape(part)
    return re.compile(regex)


def _translated(key: str, forward: _Rules, backward: _Rules) -> str:
    found = _applied(key, forward)
    if len(found) != 1:
        raise WeightsError(f"{'no rule' if not found else 'more than one rule'} of the key map fits {key!r}")
    # A name that translates back to the key alone cannot be the name of another key too.
    if _applied(found[0], backward) != [key]:
        raise WeightsError(
            f"the key map is ambiguous: {key!r} becomes {found[0]!r}, which does not translate back to it alone"
        )
    return found[0]


def _applied(key: str, rules: _Rules) -> list[str]:
    matches = ((pattern.fullmatch(key), template) for pattern, template in rules)
    return [template.format_map(match.groupdict()) for match, template in matches if match]


def _renamed(tensors: Mapping[str, T], rename: Callable[[str], str | None]) -> dict[str, T]:
    renamed: dict[str, T] = {}
    problems: dict[str, str] = {}
    for key, tensor in tensors.items():
        try:
            name = rename(key)
        except WeightsError as error:
            problems[key] = str(error)
        else:
            if name is not None:
                renamed[name] = tensor
    if problems:
        first = min(problems)
        raise WeightsError(f"tensors without a place in the key map: {_listed(problems)} ({problems[first]})")
    return renamed
