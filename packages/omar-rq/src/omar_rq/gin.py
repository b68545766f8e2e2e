"""Read and write ``config.gin``, the configuration file beside every released checkpoint. No code in it is executed.

:func:`parse` turns the text into :class:`Bindings`: assignments of literals, macros and class references, from which
:func:`model_config` builds the configuration of a model; :func:`write_gin` is the inverse.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from omar_rq.config import ModelConfig
from pentatonic.errors import ConfigError
from pentatonic.untrusted.files import shortened

# The released files have some 10,000 characters. Bounds on what takes more time or memory than the text is long:
MAX_CHARACTERS = 1 << 17
MAX_NESTING = 32
MAX_NUMBER_CHARACTERS = 64
MAX_MACRO_CHAIN = 32
MAX_REPRESENTATIONS = 16

_TOKEN = re.compile(
    r"""
    (?P<blank>[ \t\f\r]+ | \\\r?\n | \#[^\n]*)
  | (?P<newline>\n)
  | (?P<string>[rRbBuU]{0,2}(?:"(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*'))
  | (?P<number>(?:\d|\.\d)(?:[eE][+-]|[\w.])*)
  | (?P<name>[A-Za-z_][\w./]*)
  | (?P<mark>[@%()\[\]{},:=+-])
    """,
    re.VERBOSE | re.DOTALL,
)
_CONSTANTS = {"True": True, "False": False, "None": None}


@dataclass(frozen=True)
class Reference:
    """``@nets.conformer.Conformer``: a class by name, never looked up or called."""

    name: str

    @property
    def last(self) -> str:
        """The name without its modules and scope."""
        return self.name.rpartition("/")[2].rpartition(".")[2]


@dataclass(frozen=True)
class Macro:
    """``%new_freq``: the value assigned to that name anywhere in the file."""

    name: str


@dataclass(frozen=True)
class Bindings:
    """The assignments of one file.

    Args:
        values: ``(class, parameter) -> value``: the last two components of each selector, the class in lower
            case (the original registers some classes under two spellings). The last line wins.
        macros: Macro name -> value.
        source: Name of the file, for messages.
    """

    values: dict[tuple[str, str], Any]
    macros: dict[str, Any]
    source: str = "config.gin"

    def section(self, cls: str) -> dict[str, Any]:
        """Return all parameters bound to ``cls`` (any case), macros replaced by their values.

        Raises:
            ConfigError: A value uses a macro that is not defined, or only by itself or by very many others.
        """
        wanted = cls.lower()
        return {
            name: self._resolved(value) for (owner, name), value in self.values.items() if owner == wanted
        }

    def _resolved(self, value: Any) -> Any:
        # Macros in the value of a macro are not replaced: nested macros could grow without bound.
        seen: set[str] = set()
        while isinstance(value, Macro):
            if value.name not in self.macros or value.name in seen or len(seen) == MAX_MACRO_CHAIN:
                raise ConfigError(
                    f"{self.source}: macro {shortened('%' + value.name)} has no value; defined macros: "
                    f"{shortened(sorted(self.macros))}; allowed: up to {MAX_MACRO_CHAIN} macros in a chain"
                )
            seen.add(value.name)
            value = self.macros[value.name]
        if seen or not isinstance(value, (list, tuple, dict)):
            return value
        if isinstance(value, dict):
            return {key: self._resolved(item) for key, item in value.items()}
        return type(value)(self._resolved(item) for item in value)


def parse(text: str, *, source: str = "config.gin") -> Bindings:
    """Read the text of a gin file.

    Values are literals (numbers, strings, booleans, ``None``, tuples, lists, dicts, over several lines
    inside brackets), ``%macro``, ``@reference``, or containers of those. ``import`` lines are skipped.
    Bindings with a scope (``scope/Class.parameter``) are parsed and ignored.

    Args:
        text: Content of the file.
        source: Name of the file, for messages.

    Returns:
        The bindings; the last one where a parameter has several.

    Raises:
        ConfigError: The text is longer than ``MAX_CHARACTERS``, includes another file, or a line is not of
            the form above; the message has the line number.
    """
    if len(text) > MAX_CHARACTERS:
        raise ConfigError(f"{source}: {len(text)} characters; at most {MAX_CHARACTERS} are read")
    reader = _Reader(text, source)
    bindings = Bindings({}, {}, source)
    for selector, value in reader.statements():
        owner, _, parameter = selector.rpartition(".")
        if "/" in selector:
            continue
        if owner:
            bindings.values[owner.rpartition(".")[2].lower(), parameter] = value
        else:
            bindings.macros[parameter] = value
    return bindings


class _Reader:
    """A cursor over the tokens of one file."""

    def __init__(self, text: str, source: str) -> None:
        self.source, self.line, self.brackets = source, 1, 0
        self.tokens = self._scan(text)
        self.kind, self.text = next(self.tokens)

    def _scan(self, text: str) -> Iterator[tuple[str, str]]:
        position = 0
        while position < len(text):
            match = _TOKEN.match(text, position)
            if match is None:
                raise self.error(f"cannot read {text[position : position + 20].partition(chr(10))[0]!r}")
            kind, position = match.lastgroup or "", match.end()
            if kind != "blank" and not (kind == "newline" and self.brackets):
                yield kind, match.group()
            self.line += match.group().count("\n")
        yield "end", "end of file"

    def error(self, reason: str) -> ConfigError:
        return ConfigError(f"{self.source}:{self.line}: {reason}")

    def take(self) -> str:
        """Return the text of the current token and go to the next one."""
        text = self.text
        self.brackets += (text in "([{") - (text in ")]}") if self.kind == "mark" else 0
        self.kind, self.text = next(self.tokens, ("end", "end of file"))
        return text

    def at(self, mark: str) -> bool:
        return self.kind == "mark" and self.text == mark

    def expect(self, mark: str) -> None:
        if not self.at(mark):
            raise self.error(f"found {shortened(self.text)} where {mark!r} should be")
        self.take()

    def name(self) -> str:
        if self.kind != "name":
            raise self.error(f"found {shortened(self.text)} where a name should be")
        return self.take()

    def statements(self) -> Iterator[tuple[str, Any]]:
        while self.kind != "end":
            if self.kind == "newline":
                self.take()
                continue
            selector = self.name()
            if selector in ("import", "from") and self.kind == "name":
                while self.kind not in ("newline", "end"):
                    self.take()
                continue
            if selector == "include":
                raise self.error("include is not supported: one file holds the whole configuration")
            self.expect("=")
            yield selector, self.value()
            if self.kind not in ("newline", "end"):
                raise self.error(
                    f"found {shortened(self.text)} after the value of {shortened(selector)}; a value is one literal"
                )

    def value(self) -> Any:
        if self.kind == "number":
            return self.number()
        if self.kind == "string":
            texts = [self.take()]
            while self.kind == "string":  # adjacent strings are concatenated, as in Python
                texts.append(self.take())
            return self.literal(" ".join(texts))
        if self.kind == "name":
            name = self.take()
            if name not in _CONSTANTS:
                raise self.error(f"{shortened(name)} is not a literal, a %macro or an @reference")
            return _CONSTANTS[name]
        if self.kind == "mark" and self.text in "+-":
            sign = -1 if self.take() == "-" else 1
            if self.kind != "number":
                raise self.error(f"found {shortened(self.text)} where a number should be")
            return sign * self.number()
        if self.at("%"):
            self.take()
            return Macro(self.name())
        if self.at("@"):
            self.take()
            reference = Reference(self.name())
            if self.at("("):  # gin would call `@x()`; here it is the same reference as `@x`
                self.take()
                self.expect(")")
            return reference
        if self.kind == "mark" and self.text in "([{":
            return self.container()
        raise self.error(f"found {shortened(self.text)} where a value should be")

    def number(self) -> Any:
        if len(self.text) > MAX_NUMBER_CHARACTERS:
            raise self.error(
                f"a number has {len(self.text)} characters; at most {MAX_NUMBER_CHARACTERS} are read"
            )
        return self.literal(self.take())

    def container(self) -> Any:
        if self.brackets >= MAX_NESTING:
            raise self.error(f"brackets are nested deeper than {MAX_NESTING}")
        opening = self.take()
        closing = {"(": ")", "[": "]", "{": "}"}[opening]
        items: list[Any] = []
        commas = 0
        while not self.at(closing):
            item = self.value()
            if opening == "{":
                self.expect(":")
                item = (item, self.value())
            items.append(item)
            if not self.at(closing):
                self.expect(",")
                commas += 1
        # The bracket is closed before the next token is scanned, so that a line break after it ends the statement.
        self.take()
        if opening == "[":
            return items
        if opening == "(":
            return items[0] if len(items) == 1 and not commas else tuple(items)
        try:
            return dict(items)
        except TypeError:
            raise self.error("the key of a dict is a literal, not a container") from None

    def literal(self, text: str) -> Any:
        try:
            return ast.literal_eval(text)
        except (SyntaxError, ValueError):
            raise self.error(f"{shortened(text)} is not a Python literal") from None


# class -> (our name, parameter -> field, patch size where the file gives none)
_FRONTENDS: dict[str, tuple[str, dict[str, str], tuple[int, int] | None]] = {
    "melspectrogram": (
        "mel",
        {"sr": "sample_rate", "win_len": "win_length", "hop_len": "hop_length", "power": "power"}
        | {"n_mel": "n_mels", "norm": "norm", "mel_scale": "mel_scale"}
        | {key: key for key in ("stretch_factor", "freq_mask_param", "time_mask_param")},
        (96, 4),
    ),
    "cqt": (
        "cqt",
        {"sr": "sample_rate", "hop_len": "hop_length", "power": "power", "bins_per_octave": "bins_per_octave"}
        | {"n_bins": "n_bins", "f_min": "f_min", "magnitude": "magnitude", "logC": "log"},
        (144, 4),
    ),
    "encodec": (
        "encodec",
        {"weights_path": "weights_path", "norm_type": "norm_type", "stats_path": "stats_path"}
        | {"orig_sr": "sample_rate"},
        (128, 5),
    ),
    "waveform": ("waveform", {"sr": "sample_rate"}, None),
}
_TRUNKS = {
    "conformer": (
        *("embed_dim", "depth", "num_heads", "mlp_ratio", "mlp_residual_factor", "dropout", "input_dropout"),
        *("use_deepnorm", "alpha_deepnorm", "beta_deepnorm", "use_rope"),
    ),
    "transformer": (
        *(
            "patch_size",
            "in_chans",
            "embed_dim",
            "head_dims",
            "depth",
            "num_heads",
            "num_patches",
            "mlp_ratio",
        ),
        *("dropout", "input_dropout", "alpha_deepnorm", "beta_deepnorm", "do_deepnorm", "do_classification"),
        "do_vit_tokenization",
    ),
}
_QUANTIZER = {
    **{key: key for key in ("num_codebooks", "codebook_size", "codebook_dim", "diff_input", "seed")},
    "quantizer_type": "type",
}
_MASKING = {"mask_seconds": "seconds", "mask_prob": "prob", "masking_noise_type": "noise"}


def model_config(bindings: Bindings) -> ModelConfig:
    """Build the configuration of a model.

    A single ``build_module.representation`` is both the input and the target; of a list, all are targets and
    ``MaskingModel.input_representation`` is the input. Patch sizes that the file leaves out get the
    defaults of the original; without normalisation in the file there is none. ``Conformer.conv_kernel_size`` has no
    effect in the original either.

    Raises:
        ConfigError: The file does not describe a masked-token model, or a value is missing or of the wrong type.
    """
    build, masking_model = bindings.section("build_module"), bindings.section("MaskingModel")
    module = build.get("module")
    if module is not None and _last(module) != "maskingmodel":
        raise ConfigError(
            f"{bindings.source}: build_module.module is {shortened(module)}; only MaskingModel is read"
        )
    representation = build.get("representation")
    if representation is None and "input_representation" not in masking_model:
        raise ConfigError(
            f"{bindings.source}: no build_module.representation, so this is not the configuration of a model. The "
            "original's files for downstream tasks and for text and audio set up a training on top of a model; "
            "allowed: the config.gin of a pre-trained model"
        )
    single = not isinstance(representation, (list, tuple))
    if not single and len(representation) > MAX_REPRESENTATIONS:
        raise ConfigError(
            f"{bindings.source}: build_module.representation has {len(representation)} entries; allowed: at most "
            f"{MAX_REPRESENTATIONS}"
        )
    targets = [representation] if single else representation
    source = masking_model.get("input_representation", representation if single else None)
    quantizer = _picked(masking_model, _QUANTIZER)
    scalar = _picked(
        bindings.section("FiniteScalarQuantizer"),
        {"levels": "fsq_levels", "preserve_symmetry": "fsq_preserve_symmetry"},
    )
    try:
        return ModelConfig.from_dict(
            {
                "input": _frontend(bindings, source),
                "targets": [_frontend(bindings, target) for target in targets],
                "net": _trunk(bindings, build.get("net")),
                "quantizer": quantizer | scalar if "codebook_size" in quantizer else None,
                "masking": _picked(masking_model, _MASKING),
            }
        )
    except ConfigError as error:
        raise ConfigError(f"{bindings.source}: {error}") from error


# Selectors of the original's classes, for writing; reading matches by the last component alone.
_SELECTORS = {
    "melspectrogram": "nets.melspectrogram.MelSpectrogram",
    "cqt": "nets.cqt.CQT",
    "encodec": "nets.encodec.EnCodec",
    "waveform": "nets.waveform.Waveform",
    "conformer": "nets.conformer.Conformer",
    "transformer": "nets.transformer.Transformer",
    "maskingmodel": "modules.maskingmodel.MaskingModel",
}


# Parameters of the original's classes that have no default there and no meaning here: its loader refuses a file
# without them. The depthwise convolution has 31 taps whatever `conv_kernel_size` says.
_REQUIRED = {"conformer": {"conv_kernel_size": 5, "num_patches": None}}
LEARNING_RATE, WEIGHT_DECAY = 1e-4, 1e-2
"""Of the original's recipe."""


def write_gin(config: ModelConfig, *, lr: float = LEARNING_RATE, weight_decay: float = WEIGHT_DECAY) -> str:
    """Return the text of a ``config.gin`` from which :func:`model_config` reads ``config`` again.

    The original's loader accepts it. Settings that the original does not have (``causal=False``,
    ``masking.mode="tokens"``) cannot be expressed in it.

    Args:
        config: The model.
        lr: Learning rate of the run; the original's loader wants one.
        weight_decay: Weight decay of the run, likewise.

    Raises:
        ConfigError: ``config`` has such a setting, or two different front ends of one kind.
    """
    by_name = {name: (cls, fields) for cls, (name, fields, _) in _FRONTENDS.items()}
    model = _SELECTORS["maskingmodel"]
    net = _SELECTORS[config.net.name]
    lines = [
        f"build_module.module = @{model}",
        f"build_module.net = @{net}",
        "build_module.ckpt_path = 'model.ckpt'",
    ]
    references = [f"@{_SELECTORS[by_name[target.name][0]]}" for target in config.targets]
    source = f"@{_SELECTORS[by_name[config.input.name][0]]}"
    if config.targets == (config.input,):
        lines.append(f"build_module.representation = {source}")
    else:
        lines.append(f"build_module.representation = [{', '.join(references)}]")
        lines.append(f"{model}.input_representation = {source}")
    for frontend in dict.fromkeys((config.input, *config.targets)):
        cls, fields = by_name[frontend.name]
        values = {name: getattr(frontend, field) for name, field in fields.items()}
        if frontend.name != "encodec":
            values |= {name: getattr(frontend, name) for name in ("norm_mean", "norm_std")}
        lines += _bindings(_SELECTORS[cls], values | {"patch_size": frontend.patch_size})
    lines += _bindings(net, {name: getattr(config.net, name) for name in _TRUNKS[config.net.name]})
    lines += _bindings(net, _REQUIRED.get(config.net.name, {}))
    lines += _bindings(model, {"lr": lr, "weight_decay": weight_decay})
    lines += _bindings(model, {name: getattr(config.masking, field) for name, field in _MASKING.items()})
    if config.quantizer is not None:
        lines += _bindings(
            model, {name: getattr(config.quantizer, field) for name, field in _QUANTIZER.items()}
        )
        scalar = {
            "levels": list(config.quantizer.fsq_levels),
            "preserve_symmetry": config.quantizer.fsq_preserve_symmetry,
        }
        lines += _bindings("FiniteScalarQuantizer", scalar)
    text = "\n".join(lines) + "\n"
    if model_config(parse(text)) != config:
        raise ConfigError(
            "the configuration has settings that config.gin cannot express; save it as config.json"
        )
    return text


def _bindings(selector: str, values: dict[str, Any]) -> list[str]:
    return [f"{selector}.{name} = {value!r}" for name, value in values.items()]


def checkpoint_name(bindings: Bindings) -> str | None:
    """Return the file name at the end of ``build_module.ckpt_path``; ``None`` where there is none."""
    path = bindings.section("build_module").get("ckpt_path")
    name = re.split(r"[/\\]", path)[-1] if isinstance(path, str) else ""
    return name if name not in ("", ".", "..") else None


def _last(value: Any) -> str:
    return value.last.lower() if isinstance(value, Reference) else ""


def _picked(section: dict[str, Any], fields: dict[str, str]) -> dict[str, Any]:
    return {field: section[name] for name, field in fields.items() if name in section}


def _same(section: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return _picked(section, {name: name for name in names})


def _frontend(bindings: Bindings, reference: Any) -> dict[str, Any]:
    if _last(reference) not in _FRONTENDS:
        raise ConfigError(f"a representation is {shortened(reference)}; allowed: @{', @'.join(_FRONTENDS)}")
    name, fields, patch_size = _FRONTENDS[_last(reference)]
    section = bindings.section(_last(reference))
    data = {"name": name, **_picked(section, fields), "patch_size": section.get("patch_size", patch_size)}
    if data["patch_size"] is None:
        raise ConfigError(f"{reference.last}.patch_size is missing")
    if "win_length" in data:
        data["n_fft"] = data["win_length"]
    if name != "encodec":
        data |= {"norm_mean": section.get("norm_mean"), "norm_std": section.get("norm_std")}
    return data


def _trunk(bindings: Bindings, reference: Any) -> dict[str, Any]:
    if _last(reference) not in _TRUNKS:
        raise ConfigError(f"build_module.net is {shortened(reference)}; allowed: @{', @'.join(_TRUNKS)}")
    values = _same(bindings.section(_last(reference)), _TRUNKS[_last(reference)])
    return {"name": _last(reference), **{key: value for key, value in values.items() if value is not None}}
