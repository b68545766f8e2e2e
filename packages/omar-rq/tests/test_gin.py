"""The gin reader: grammar, refusals, and what it picks from released-style files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from omar_rq.config import CQTConfig, EncodecConfig, TransformerConfig, WaveformConfig
from omar_rq.gin import MAX_CHARACTERS, Reference, checkpoint_name, model_config, parse, write_gin
from omar_rq.published_models import published_config
from pentatonic.errors import ConfigError

GOLDENS = Path(__file__).parent / "goldens"

MINIMAL = """
build_module.net = @Conformer
build_module.representation = @MelSpectrogram
Conformer.embed_dim = 16
Conformer.num_heads = 2
"""

# As the training code of the original saves it: banners, full selectors, continuation lines, sorted sections.
SAVED = r"""
import omar_rq.nets.conformer

# Macros:
# ==============================================================================
new_freq = 24000

# Parameters for build_module:
# ==============================================================================
build_module.ckpt_path = \
    'C:\\runs\\epoch=3-step=7.ckpt'
build_module.module = @omar_rq.modules.maskingmodel.MaskingModel
build_module.net = @omar_rq.nets.transformer.Transformer
build_module.representation = \
    [@omar_rq.nets.melspectrogram.melspectrogram,
     @nets.cqt.CQT()]  # two
omar_rq.modules.maskingmodel.MaskingModel.input_representation = @Waveform
MaskingModel.num_codebooks = 2
MaskingModel.codebook_size = 8196
MaskingModel.masking_noise_type = 'shuffled_input'

# Parameters for nets.cqt.CQT:
# ==============================================================================
nets.cqt.CQT.norm_mean = +4.75
nets.cqt.CQT.norm_std = 1.9
nets.cqt.CQT.patch_size = (188, 3)
nets.cqt.CQT.sr = %new_freq
nets.cqt.CQT.logC = False

melspectrogram.MelSpectrogram.sr = %new_freq
MelSpectrogram.power = 1
Waveform.sr = %new_freq
Waveform.patch_size = (1, 960,)
omar_rq.nets.transformer.Transformer.num_patches = 128
omar_rq.nets.transformer.Transformer.num_patches = 256
omar_rq.nets.transformer.Transformer.do_deepnorm = False

train.params = {
    'strategy': 'ddp' '_find_unused',  # neighbours join
    'devices': [0, 1],
}
train.wandb_params = None
scope/nets.transformer.Transformer.depth = 99
DiscotubeAudioDataModule.batch_size = 32
AudioDataset.new_freq = %new_freq
CosineAnnealingCallback.warmup_steps = 30000
"""


def test_reads_every_kind_of_value():
    text = """
    a.B.int = -3
    B.float = 1e-4   # comment
    B.exp = 2.5E+3
    B.dot = .5
    B.text = "a # b 'c' \\" d"
    B.flag = True
    B.none = None
    B.empty = ()
    B.one = (7,)
    B.paren = (7)
    B.nested = {"k": [1, (2, 3)], 'r': @x.y.Z}
    B.macro = [%m, %m]
    m = %n
    n = 4
    B.called = @scope/x.Z()
    B.int = -4
    """
    section = parse(text).section("b")
    assert section == {
        **{"int": -4, "float": 1e-4, "exp": 2500.0, "dot": 0.5, "text": "a # b 'c' \" d", "flag": True},
        **{"none": None, "empty": (), "one": (7,), "paren": 7},
        **{"nested": {"k": [1, (2, 3)], "r": Reference("x.y.Z")}, "macro": [4, 4]},
        "called": Reference("scope/x.Z"),
    }
    assert section["called"].last == "Z"


def test_reads_a_file_as_saved_by_training():
    bindings = parse(SAVED)
    config = model_config(bindings)
    assert config.input == WaveformConfig(norm_mean=None, norm_std=None, patch_size=(1, 960))
    mel, cqt = config.targets
    assert (mel.name, mel.sample_rate, mel.power, mel.norm_mean, mel.patch_size) == (
        *("mel", 24000, 1.0, None),
        (96, 4),
    )
    assert cqt == CQTConfig(log=False, norm_mean=4.75, norm_std=1.9, patch_size=(188, 3))
    assert config.net == TransformerConfig(num_patches=256, do_deepnorm=False)
    assert config.quantizer is not None and config.quantizer.codebook_size == 8196
    assert config.masking.noise == "shuffled_input"
    assert checkpoint_name(bindings) == "epoch=3-step=7.ckpt"


def test_reads_the_recorded_configurations():
    config = model_config(parse((GOLDENS / "model_multifeature_fsq_tiny/config.gin").read_text()))
    assert config.eps == 25.0 and config.sample_rate == 24000
    assert [target.name for target in config.targets] == ["cqt", "encodec", "mel"]
    assert isinstance(config.targets[1], EncodecConfig) and config.targets[1].patch_size == (128, 3)
    assert config.quantizer is not None and config.quantizer.fsq_levels == (4, 4, 4)
    bindings = parse((GOLDENS / "model_mel_tiny/config.gin").read_text())
    mel = model_config(bindings)
    assert mel.targets == (mel.input,) and mel.eps == 15.625 and mel.net.depth == 3


@pytest.mark.parametrize(
    ("name", "bins", "patch"), [("MelSpectrogram", "", (96, 4)), ("CQT", "CQT.n_bins = 144", (144, 4))]
)
def test_fills_in_the_patch_size_of_the_original_but_keeps_a_given_one(name, bins, patch):
    text = MINIMAL.replace("MelSpectrogram", name) + bins
    assert model_config(parse(text)).input.patch_size == patch
    given = f"{text}\n{name}.patch_size = ({patch[0]}, 3)"
    assert model_config(parse(given)).input.patch_size == (patch[0], 3)


def test_window_length_is_also_the_transform_length():
    config = model_config(parse(MINIMAL + "MelSpectrogram.win_len = 1024"))
    assert config.input.n_fft == config.input.win_length == 1024


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("x = __import__('os').system('true')", "__import__"),
        ("a.b = open('/etc/passwd')", "open"),
        ("a.b = 1 if True else 2", "after the value"),
        ("a.b = [1, 2", "end of file"),
        ("a.b = 'unfinished", "cannot read"),
        ("a.b = {[1]: 2}", "key of a dict"),
        ("a.b = 0777", "not a Python literal"),
        ("a.b = -'x'", "number"),
        ("a.b", "'='"),
        ("a.b = ", "value should be"),
        ("include 'other.gin'", "include"),
        ("= 3", "name"),
        ("a.b = @", "name"),
        ("a.b = " + "[" * 100 + "]" * 100, "nested deeper"),
        ("a.b = lambda: 0", "lambda"),
    ],
)
def test_refuses_what_is_not_a_literal_and_names_the_line(line, says):
    with pytest.raises(ConfigError, match=r"config\.gin:2: ") as error:
        parse(f"# first\n{line}")
    assert says in str(error.value)


def test_refuses_macros_without_value_only_where_they_are_used():
    bindings = parse("a.x = %missing\nb.x = %loop\nloop = %pool\npool = %loop\nc.x = 1")
    assert bindings.section("c") == {"x": 1}
    for owner in ("a", "b"):
        with pytest.raises(ConfigError, match="has no value"):
            bindings.section(owner)


def test_refuses_oversized_text():
    with pytest.raises(ConfigError, match="characters"):
        parse("#" * (MAX_CHARACTERS + 1))


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("build_module.module = @modules.simclr.SimCLR", "MaskingModel"),
        ("build_module.net = @nets.net.Net", "@conformer"),
        ("build_module.representation = @Unknown", "@melspectrogram"),
        ("build_module.representation = [@MelSpectrogram]", "representation is None"),
        ("build_module.representation = @Waveform", "Waveform.patch_size"),
        ("Conformer.depth = 'many'", "net.depth"),
        ("Conformer.depth = @Conformer", "net.depth"),
        ("MelSpectrogram.patch_size = (48, 4)", "mel.patch_size"),
        ("MaskingModel.mask_prob = 2.0", "masking.prob"),
        ("MaskingModel.codebook_size = 8\nMaskingModel.quantizer_type = 'x'", "quantizer.type"),
    ],
)
def test_refuses_models_it_does_not_know_and_names_the_key(line, says):
    with pytest.raises(ConfigError, match=r"my\.gin") as error:
        model_config(parse(MINIMAL + line, source="my.gin"))
    assert says in str(error.value)


@pytest.mark.parametrize("path", ["'..'", "'a/..'", "''", "None"])
def test_checkpoint_name_never_leaves_the_directory(path):
    assert checkpoint_name(parse(f"build_module.ckpt_path = {path}")) is None


@settings(deadline=None)
@given(st.text(alphabet="ab.=%@()[]{},:'\"\\\n #/1e-+", max_size=60))
def test_any_text_is_read_or_refused_with_a_typed_error(text):
    try:
        parse(text)
    except ConfigError:
        return


literals = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(literals)
def test_any_python_literal_comes_back_as_it_was(value):
    assert parse(f"A.x = {value!r}").section("A") == {"x": value}


def test_files_of_the_original_that_are_not_of_a_model_say_so():
    for text in (
        "build_module.module = @MaskingModel\nbuild_module.net = @Conformer\n",
        "train.params = {'a': 1}\n",
    ):
        with pytest.raises(
            ConfigError, match=r"downstream tasks .* allowed: the config.gin of a pre-trained model"
        ):
            model_config(parse(text))


# Parameters without a default in the original's classes: its loader refuses a file that lacks one of them.
REQUIRED = {
    "Conformer": {
        *(
            "embed_dim",
            "depth",
            "conv_kernel_size",
            "num_heads",
            "mlp_ratio",
            "mlp_residual_factor",
            "dropout",
        ),
        *("input_dropout", "use_deepnorm", "alpha_deepnorm", "beta_deepnorm", "use_rope", "num_patches"),
    },
    "MaskingModel": {
        *(
            "lr",
            "weight_decay",
            "mask_seconds",
            "mask_prob",
            "num_codebooks",
            "codebook_size",
            "codebook_dim",
        ),
        *("seed", "diff_input"),
    },
}


def test_what_is_written_has_all_that_the_original_requires():
    written = parse(write_gin(published_config("base")))
    for name, required in REQUIRED.items():
        assert required <= set(written.section(name)), name
    assert written.section("Conformer")["conv_kernel_size"] == 5
    assert written.section("Conformer")["num_patches"] is None
    assert (written.section("MaskingModel")["lr"], written.section("MaskingModel")["weight_decay"]) == (
        1e-4,
        1e-2,
    )
    run = parse(write_gin(published_config("base"), lr=3e-4, weight_decay=0.0))
    assert (run.section("MaskingModel")["lr"], run.section("MaskingModel")["weight_decay"]) == (3e-4, 0.0)
