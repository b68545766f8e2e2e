from __future__ import annotations

import hashlib
from pathlib import Path

import huggingface_hub
import pytest
import torch
from torch import nn

from pentatonic.checkpoint import load_tensors, save_tensors
from pentatonic.errors import CorruptCheckpoint, HubError, UsageError, WeightsError
from pentatonic.hub import KeyMap, Released, known_models, licence_of, load_state, push, resolve

PATTERNS = ("config.json", "*.safetensors")
COMMIT = "0123456789abcdef0123456789abcdef01234567"
WEIGHTS = b"the weights"


class Hub:
    """Stands for the hub's client: keeps the calls, serves one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[tuple[str, str, list[str]]] = []
        self.error: Exception | None = None

    def snapshot_download(self, repo_id: str, *, revision: str, allow_patterns: list[str]) -> str:
        self.calls.append((repo_id, revision, allow_patterns))
        if self.error:
            raise self.error
        return str(self.folder)


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    folder = tmp_path / "snapshot"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(WEIGHTS)
    (folder / "config.json").write_text("{}")
    fake = Hub(folder)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", fake.snapshot_download)
    return fake


@pytest.fixture
def released() -> dict[str, Released]:
    files = {"model.safetensors": hashlib.sha256(WEIGHTS).hexdigest(), "config.json": None}
    return {"tiny": Released("some-lab/tiny", COMMIT, "CC-BY-4.0", files)}


# --- resolve


def test_bundled_models_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "small").mkdir()
    (tmp_path / "package").mkdir()
    monkeypatch.chdir(tmp_path)
    assert (
        resolve("small", bundled={"small": tmp_path / "package"}, allow_patterns=PATTERNS)
        == tmp_path / "package"
    )
    with pytest.raises(HubError, match="bundled model 'small' is missing at"):
        resolve("small", bundled={"small": tmp_path / "none"}, allow_patterns=PATTERNS)


def test_models_are_listed_with_their_licences(released: dict[str, Released], tmp_path: Path) -> None:
    names = {"bundled": {"small": tmp_path}, "released": released}
    models = known_models(**names)
    assert [(m["model"], m["kind"]) for m in models] == [
        ("small", "bundled"),
        *((n, "released") for n in released),
    ]
    assert models[0]["licence"] == "Apache-2.0"
    assert {m["licence"] for m in models[1:]} == {r.licence for r in released.values()}
    assert licence_of("another", **names) == "not stated"


def test_paths_stand_for_themselves(tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tmp_path / "lab" / "model"
    model.mkdir(parents=True)
    (model / "model.ckpt").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve(model, allow_patterns=PATTERNS) == model
    assert resolve(model / "model.ckpt", allow_patterns=PATTERNS) == model
    assert resolve("lab/model", revision="main", allow_patterns=PATTERNS) == Path("lab/model")
    assert resolve("~/lab/model", allow_patterns=PATTERNS) == model
    assert hub.calls == []


@pytest.mark.parametrize("name", ["tiny", "some-lab/tiny"])
def test_released_models_are_fetched_at_their_revision(
    hub: Hub, released: dict[str, Released], name: str
) -> None:
    assert resolve(name, released=released, allow_patterns=PATTERNS) == hub.folder
    assert resolve(name, released=released, allow_patterns=PATTERNS, revision=COMMIT) == hub.folder
    assert hub.calls == [("some-lab/tiny", COMMIT, list(PATTERNS))] * 2


def test_altered_or_missing_files_of_released_models_are_named(
    hub: Hub, released: dict[str, Released]
) -> None:
    (hub.folder / "model.safetensors").write_bytes(WEIGHTS + b"!")
    with pytest.raises(
        CorruptCheckpoint, match=r"model\.safetensors: the content differs from the released file"
    ):
        resolve("tiny", released=released, allow_patterns=PATTERNS)
    # At another revision the files are other ones.
    assert resolve("tiny", released=released, allow_patterns=PATTERNS, revision="v2") == hub.folder
    assert hub.calls[-1] == ("some-lab/tiny", "v2", list(PATTERNS))
    (hub.folder / "model.safetensors").write_bytes(WEIGHTS)
    (hub.folder / "config.json").unlink()
    with pytest.raises(HubError, match=r"config\.json is missing"):
        resolve("tiny", released=released, allow_patterns=PATTERNS)


def test_other_repositories_need_a_revision(hub: Hub) -> None:
    assert resolve("me/mine", allow_patterns=PATTERNS, revision="main") == hub.folder
    assert hub.calls == [("me/mine", "main", list(PATTERNS))]
    with pytest.raises(HubError, match=r"give a revision \(commit hash, tag or branch\)"):
        resolve("me/mine", allow_patterns=PATTERNS)
    assert len(hub.calls) == 1


@pytest.mark.parametrize(
    "name",
    [
        "",
        "tinny",
        "./runs/x",
        "/runs/x",
        "../x",
        "a/b/c",
        "a/..",
        "a b/c",
        "~nobody-here/x",
        "\0",
        "x" * 5000,
        Path("me/mine"),
    ],
)
def test_what_is_nowhere_is_listed_with_what_there_is(
    hub: Hub, released: dict[str, Released], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str | Path
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(HubError) as caught:
        resolve(
            name, bundled={"small": tmp_path}, released=released, allow_patterns=PATTERNS, revision="main"
        )
    message = str(caught.value)
    assert f"no path {name} was found" in message
    assert "bundled models: small; released models: tiny" in message
    assert hub.calls == []


@pytest.mark.parametrize(
    "error", [ConnectionError("no\nroute"), ValueError("bad id"), RuntimeError("x" * 1000)]
)
def test_a_failure_of_the_hub_is_one_sentence(
    hub: Hub, released: dict[str, Released], error: Exception
) -> None:
    hub.error = error
    with pytest.raises(HubError, match=f"cannot fetch some-lab/tiny at revision {COMMIT}") as caught:
        resolve("tiny", released=released, allow_patterns=PATTERNS)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600
    assert caught.value.__cause__ is error


def test_an_empty_snapshot_is_an_error(hub: Hub) -> None:
    for path in hub.folder.iterdir():
        path.unlink()
    with pytest.raises(HubError, match=r"has none of the files config\.json, \*\.safetensors"):
        resolve("me/mine", allow_patterns=PATTERNS, revision="main")


def test_offline_mode_uses_the_cache_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_network(*_args, **_kwargs):
        raise AssertionError("the network was used")

    monkeypatch.setattr("socket.socket.connect", no_network)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(HubError, match=f"cannot fetch me/mine at revision {COMMIT}") as caught:
        resolve("me/mine", allow_patterns=PATTERNS, revision=COMMIT)
    assert "AssertionError" not in str(caught.value)


# --- key maps


KEYS = KeyMap(
    [
        ("embed.{p}", "embedding_layer.{p}"),
        ("trunk.{i}.ff{n}.norm.{p}", "net.layers.{i}.ff{n}.module.0.{p}"),
        ("trunk.{i}.ff{n}.up.{p}", "net.layers.{i}.ff{n}.module.1.{p}"),
        ("trunk.{i}.attention.qkv.weight", "net.layers.{i}.attention.qkv.weight"),
    ],
    drop=["linear.*", "net.layers.{i}.attention.rotary_emb.freqs", "*.phase_advance"],
)
PAIRS = {
    "embed.weight": "embedding_layer.weight",
    "trunk.0.ff1.norm.bias": "net.layers.0.ff1.module.0.bias",
    "trunk.11.ff2.up.weight": "net.layers.11.ff2.module.1.weight",
    "trunk.3.attention.qkv.weight": "net.layers.3.attention.qkv.weight",
}


def test_keys_are_renamed_in_both_directions() -> None:
    theirs = {key: torch.tensor(index) for index, key in enumerate(PAIRS.values())}
    ours = KEYS.to_ours(theirs)
    assert list(ours) == list(PAIRS)
    assert all(ours[one] is theirs[other] for one, other in PAIRS.items())
    assert KEYS.to_theirs(ours) == theirs
    assert KEYS.our_key("net.layers.7.ff1.module.1.bias") == "trunk.7.ff1.up.bias"
    assert KEYS.their_key("trunk.7.ff1.up.bias") == "net.layers.7.ff1.module.1.bias"


def test_dropped_keys_are_left_out() -> None:
    dropped = ["linear.weight", "linear.a.b", "net.layers.5.attention.rotary_emb.freqs", "x.y.phase_advance"]
    assert [KEYS.our_key(key) for key in dropped] == [None] * 4
    assert KEYS.to_ours(dict.fromkeys(dropped, 0)) == {}
    with pytest.raises(WeightsError):
        KEYS.our_key("linear")
    with pytest.raises(WeightsError):
        KEYS.our_key("net.layers.5.6.attention.rotary_emb.freqs")


def test_unknown_keys_are_named() -> None:
    with pytest.raises(WeightsError, match=r"no rule of the key map fits 'net\.extra'"):
        KEYS.our_key("net.extra")
    with pytest.raises(WeightsError, match="no rule of the key map fits"):
        KEYS.their_key("embed.a.b")  # a placeholder is one part of a name
    unknown = {f"x.{index:02d}": 0 for index in range(13)} | {"embedding_layer.bias": 0}
    with pytest.raises(WeightsError) as caught:
        KEYS.to_ours(unknown)
    message = str(caught.value)
    assert "x.09 and 3 more" in message
    assert "x.10" not in message
    assert "embedding_layer" not in message


def test_dots_and_letters_of_patterns_are_literal() -> None:
    keys = KeyMap([("a", "b.c+")])
    assert keys.our_key("b.c+") == "a"
    for key in ("bxc+", "b.cc", "b.c+\n", "b.c+x"):
        with pytest.raises(WeightsError):
            keys.our_key(key)


def test_a_placeholder_may_occur_twice() -> None:
    keys = KeyMap([("level{i}.w", "d{i}.block{i}.w")])
    assert keys.our_key("d2.block2.w") == "level2.w"
    assert keys.their_key("level2.w") == "d2.block2.w"
    with pytest.raises(WeightsError):
        keys.our_key("d2.block3.w")


def test_two_keys_never_get_one_name() -> None:
    overlapping = KeyMap([("a.{x}", "b.{x}"), ("a.w", "c.w")])
    for key in ("b.w", "c.w"):
        with pytest.raises(WeightsError, match="ambiguous"):
            overlapping.our_key(key)
    with pytest.raises(WeightsError, match="more than one rule"):
        overlapping.their_key("a.w")
    assert overlapping.our_key("b.v") == "a.v"
    merging = KeyMap([("x{a}{b}", "y{a}_{b}")])
    with pytest.raises(WeightsError, match="ambiguous"):
        merging.our_key("y1_23")
    assert KeyMap([]).to_ours({}) == {}


@pytest.mark.parametrize(
    ("rules", "drop", "reason"),
    [
        ([("a.{i}", "b.{j}")], [], "same placeholders"),
        ([("a", "b.{i}")], [], "same placeholders"),
        ([("a", "b"), ("a", "c")], [], "'a' occurs in more than one rule"),
        ([("a", "c"), ("b", "c")], [], "'c' occurs in more than one rule"),
        ([("a.*", "b")], [], "stray"),
        ([("a{", "b")], [], "stray"),
        ([("a{0}", "b")], [], "stray"),
        ([], ["a}"], "stray"),
    ],
)
def test_malformed_rules_are_refused(rules: list[tuple[str, str]], drop: list[str], reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        KeyMap(rules, drop=drop)


# --- loading


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 2)
        self.norm = nn.BatchNorm1d(2)
        self.frozen = nn.Parameter(torch.ones(2), requires_grad=False)
        self.register_buffer("table", torch.arange(4.0), persistent=False)


def weights() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    state = Model().state_dict()
    return {
        name: torch.randn(item.shape, generator=generator) if item.is_floating_point() else item + 5
        for name, item in state.items()
    }


def assert_loaded(module: nn.Module, tensors: dict[str, torch.Tensor]) -> None:
    state = module.state_dict()
    assert state.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(state[name], tensor.to(state[name].dtype))


def test_values_are_copied_into_the_modules_own_tensors() -> None:
    model, tensors = Model(), weights()
    parameters = dict(model.named_parameters())
    load_state(model, tensors, what="x")
    assert_loaded(model, tensors)
    assert all(parameter is parameters[name] for name, parameter in model.named_parameters())
    assert model.linear.weight.data_ptr() != tensors["linear.weight"].data_ptr()
    assert torch.equal(model.table, torch.arange(4.0))


def test_a_module_on_the_meta_device_takes_over_the_tensors(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", weights())
    tensors = load_tensors(tmp_path / "a")
    with torch.device("meta"):
        model = Model()
    model.table = torch.arange(4.0)
    load_state(model, tensors, what="x")
    assert_loaded(model, tensors)
    assert model.linear.weight.data_ptr() == tensors["linear.weight"].data_ptr()
    assert isinstance(model.frozen, nn.Parameter)
    assert not model.frozen.requires_grad
    assert model.linear.weight.requires_grad
    assert torch.equal(model.table, torch.arange(4.0))
    assert model.linear(torch.ones(1, 3)).isfinite().all()


def test_a_non_persistent_buffer_left_on_the_meta_device_is_an_error() -> None:
    with torch.device("meta"):
        model = Model()
    with pytest.raises(WeightsError, match=r"without values, still on the meta device: table$"):
        load_state(model, weights(), what="x")


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_floats_are_cast_to_the_modules_type(device: str) -> None:
    with torch.device(device):
        model = Model().half()
    model.table = torch.arange(4.0)
    tensors = weights()
    load_state(model, tensors, what="x")
    assert model.linear.weight.dtype == torch.float16
    assert torch.equal(model.linear.weight, tensors["linear.weight"].half())
    assert model.norm.num_batches_tracked.dtype == torch.int64


@pytest.mark.parametrize(
    ("name", "tensor", "reason"),
    [
        ("norm.num_batches_tracked", torch.tensor(3, dtype=torch.int32), "torch.int32 for torch.int64"),
        ("norm.num_batches_tracked", torch.tensor(3.0), "torch.float32 for torch.int64"),
        ("linear.weight", torch.ones(2, 3, dtype=torch.int64), "torch.int64 for torch.float32"),
        ("linear.bias", torch.ones(2, dtype=torch.bool), "torch.bool for torch.float32"),
    ],
)
def test_other_types_are_never_cast(name: str, tensor: torch.Tensor, reason: str) -> None:
    model = Model()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(WeightsError, match=f"of another type: {name} {reason}"):
        load_state(model, weights() | {name: tensor}, what="x")
    assert_loaded(model, before)


def test_everything_that_does_not_fit_is_told_at_once_and_nothing_is_changed() -> None:
    model, tensors = Model(), weights()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    del tensors["linear.bias"]
    tensors["linear.weight"] = torch.zeros(3, 2)
    tensors["frozen"] = torch.zeros(1)
    tensors |= {f"extra.{index:02d}": torch.zeros(1) for index in range(12)}
    with pytest.raises(WeightsError) as caught:
        load_state(model, tensors, what="tiny: model.safetensors")
    extra = ", ".join(f"extra.{index:02d}" for index in range(10))
    assert str(caught.value) == (
        "tiny: model.safetensors does not fit the model: missing: linear.bias; "
        f"unexpected: {extra} and 2 more; of another shape: frozen (1,) for (2,), linear.weight (3, 2) for (2, 3)"
    )
    assert_loaded(model, before)


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_tied_parameters_stay_tied(device: str) -> None:
    with torch.device(device):
        model = nn.ModuleDict({"embed": nn.Embedding(5, 3), "head": nn.Linear(3, 5, bias=False)})
        model["head"].weight = model["embed"].weight
    table = torch.randn(5, 3)
    load_state(model, {"embed.weight": table, "head.weight": table.clone()}, what="x")
    assert model["head"].weight is model["embed"].weight
    assert torch.equal(model["head"].weight, table)


class FakeHub:
    """The two calls of the hub's client that an upload makes."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict]] = []

    def create_repo(self, repo_id, **options):
        self.calls.append((repo_id, options))
        return f"the address of {repo_id}"

    def upload_folder(self, **options):
        self.calls.append(("upload", options))


def test_push_makes_a_private_repository_and_uploads_the_folder(monkeypatch, tmp_path):
    hub = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    assert push(tmp_path, "me/my-model") == "the address of me/my-model"
    assert hub.calls[0] == ("me/my-model", {"private": True, "exist_ok": True})
    assert hub.calls[1][0] == "upload"
    assert (hub.calls[1][1]["repo_id"], hub.calls[1][1]["folder_path"]) == ("me/my-model", str(tmp_path))


def test_push_says_what_is_wrong(monkeypatch, tmp_path):
    hub = FakeHub()
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: hub)
    for name in ("my-model", "../secret", "a/b/c"):
        with pytest.raises(HubError, match="owner/name"):
            push(tmp_path, name)
    with pytest.raises(HubError, match="no such directory"):
        push(tmp_path / "nowhere", "me/my-model")
    assert hub.calls == []

    def refuse(**_):
        raise RuntimeError("401 who are you?")

    monkeypatch.setattr(hub, "upload_folder", refuse)
    with pytest.raises(HubError, match=r"me/my-model.*401 who are you"):
        push(tmp_path, "me/my-model")
