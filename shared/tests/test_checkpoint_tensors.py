from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from pentatonic.checkpoint import load_tensors, read_legacy, save_tensors
from pentatonic.checkpoint.tensors import _DTYPES, MAX_HEADER_BYTES, MAX_TENSORS
from pentatonic.errors import CheckpointError, CorruptCheckpoint


def assert_equal(actual: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert actual.keys() == expected.keys()
    for name, tensor in expected.items():
        assert actual[name].dtype == tensor.dtype
        assert actual[name].shape == tensor.shape
        assert torch.equal(
            actual[name].view(-1).view(torch.uint8), tensor.detach().reshape(-1).view(torch.uint8)
        )


def safetensors_bytes(header: str | bytes, data: bytes = b"") -> bytes:
    header = header.encode() if isinstance(header, str) else header
    return len(header).to_bytes(8, "little") + header + data


# --- safetensors


@pytest.mark.parametrize("dtype", _DTYPES, ids=str)
@pytest.mark.parametrize("shape", [(), (0, 3), (7,), (2, 3, 5)], ids=str)
def test_every_dtype_and_shape_comes_back(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    tensors = {
        "odd": torch.tensor([True, False, True]),
        "x": torch.randint(0, 2, shape).to(dtype),
        "y": torch.ones(3),
    }
    save_tensors(tmp_path / "a.safetensors", tensors)
    assert_equal(load_tensors(tmp_path / "a.safetensors"), tensors)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    shapes=st.dictionaries(
        st.text(max_size=5), st.tuples(st.sampled_from(list(_DTYPES)), st.integers(0, 9)), max_size=6
    ),
    metadata=st.none() | st.dictionaries(st.text(max_size=4), st.text(max_size=4), max_size=3),
)
def test_any_names_and_metadata_come_back(tmp_path: Path, shapes, metadata) -> None:
    tensors = {name: torch.randint(0, 2, (size,)).to(dtype) for name, (dtype, size) in shapes.items()}
    save_tensors(tmp_path / "a", tensors, metadata)
    assert_equal(load_tensors(tmp_path / "a"), tensors)
    with safe_open(tmp_path / "a", framework="pt") as file:
        assert (file.metadata() or {}) == (metadata or {})


def test_equal_input_gives_equal_bytes(tmp_path: Path) -> None:
    tensors = {"b": torch.ones(3), "a": torch.zeros(2, dtype=torch.int16), "c": torch.zeros(())}
    metadata = {str(index): "value" for index in range(20)}
    save_tensors(tmp_path / "1", tensors, metadata)
    save_tensors(tmp_path / "2", dict(reversed(tensors.items())), dict(reversed(metadata.items())))
    assert (tmp_path / "1").read_bytes() == (tmp_path / "2").read_bytes()
    size = int.from_bytes((tmp_path / "1").read_bytes()[:8], "little")
    assert size % 8 == 0
    assert (tmp_path / "1").read_bytes()[8 : 8 + size].startswith(b'{"__metadata__":{"0":"value","1":')


def test_views_shared_memory_and_parameters_are_written_by_value(tmp_path: Path) -> None:
    base = torch.arange(12.0).reshape(3, 4)
    tensors = {
        "base": base,
        "same": base,
        "transposed": base.T,
        "row": base[1],
        "expanded": torch.ones(1).expand(5),
        "parameter": torch.nn.Parameter(base + 1),
    }
    save_tensors(tmp_path / "a", tensors)
    assert_equal(
        load_tensors(tmp_path / "a"), {name: tensor.contiguous() for name, tensor in tensors.items()}
    )


def test_loaded_tensors_are_independent_of_the_file(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", {"w": torch.zeros(3)})
    loaded = load_tensors(tmp_path / "a")["w"]
    loaded += 1
    assert torch.equal(load_tensors(tmp_path / "a")["w"], torch.zeros(3))
    save_tensors(tmp_path / "a", {"w": torch.full((3,), 7.0)})
    assert torch.equal(loaded, torch.ones(3))


def test_tensors_go_to_the_device(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", {"w": torch.zeros(3)})
    assert load_tensors(tmp_path / "a", device="meta")["w"].is_meta


@pytest.mark.parametrize(
    ("tensors", "reason"),
    [
        (
            {"z": torch.zeros(2, dtype=torch.complex64)},
            r"'z' is of torch\.complex64; allowed: torch\.float64",
        ),
        ({"m": torch.zeros(2, device="meta")}, "'m' is on the meta device"),
        ({"s": torch.eye(2).to_sparse()}, r"'s' is of layout torch\.sparse_coo"),
        ({"__metadata__": torch.zeros(1)}, "'__metadata__' is reserved"),
    ],
)
def test_tensors_without_a_form_in_the_format_are_named(tmp_path: Path, tensors, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        save_tensors(tmp_path / "a", tensors)
    assert list(tmp_path.iterdir()) == []


_ENTRY = '"w":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}'


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a whole"),
        (b"\x10\0\0", "not a whole"),
        (safetensors_bytes("{"), "not a whole"),
        (safetensors_bytes("{" + _ENTRY + "}"), "not a whole"),
        (safetensors_bytes("{" + _ENTRY + "}", b"12345"), "not a whole"),
        (safetensors_bytes("{" + _ENTRY + "," + _ENTRY + "}", b"1234"), "gives 'w' twice"),
        (safetensors_bytes('{"__metadata__":{"a":"1","a":"2"},' + _ENTRY + "}", b"1234"), "gives 'a' twice"),
        (
            safetensors_bytes(_ENTRY.join("{}").replace('"shape"', '"dtype":"I32","shape"'), b"1234"),
            "gives 'dtype' twice",
        ),
        ((10**9).to_bytes(8, "little") + b"{}", "header has 1000000000 bytes"),
        (safetensors_bytes("[" * 200_000), "not a whole"),
        (safetensors_bytes(b'{"\xff": 1}'), "not a whole"),
        (safetensors_bytes('{"w":{"dtype":"F5","shape":[2],"data_offsets":[0,1]}}', b"1"), "not a whole"),
    ],
)
def test_malformed_files_are_rejected_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "a.safetensors"
    path.write_bytes(content)
    with pytest.raises(CorruptCheckpoint, match=reason) as caught:
        load_tensors(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_missing_and_unreadable_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpoint, match=r"none\.safetensors: is missing"):
        load_tensors(tmp_path / "none.safetensors")
    with pytest.raises(CorruptCheckpoint, match="cannot be read"):
        load_tensors(tmp_path)


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(0, 400), value=st.binary(max_size=3), cut=st.integers(0, 3))
@example(position=0, value=b"\xff\xff\xff", cut=3)
def test_a_mutated_file_loads_or_is_rejected(tmp_path: Path, position: int, value: bytes, cut: int) -> None:
    path = tmp_path / "a"
    if not (tmp_path / "good").exists():
        save_tensors(tmp_path / "good", {"w": torch.arange(9.0), "b": torch.tensor(3)}, {"k": "v"})
    content = (tmp_path / "good").read_bytes()
    position %= len(content)
    path.write_bytes(content[:position] + value + content[position + cut :])
    try:
        tensors = load_tensors(path)
    except CorruptCheckpoint as error:
        assert str(path) in str(error)
    else:
        assert all(isinstance(tensor.sum().item(), (float, int)) for tensor in tensors.values())


# --- pickled files of other projects


STATE = {"net.w": torch.arange(6.0).reshape(2, 3), "net.n": torch.tensor(4)}


@pytest.mark.parametrize("as_zip", [True, False])
@pytest.mark.parametrize(
    "content",
    [STATE, {"state_dict": STATE, "epoch": 3, "optimizer_states": [{"lr": 0.1}], "hyper": None}],
    ids=["flat", "wrapped"],
)
def test_both_layouts_of_state_dicts_are_read(tmp_path: Path, content, as_zip: bool) -> None:
    torch.save(content, tmp_path / "model.ckpt", _use_new_zipfile_serialization=as_zip)
    assert_equal(read_legacy(tmp_path / "model.ckpt"), STATE)


def test_another_project_may_keep_its_tensors_under_another_name(tmp_path: Path) -> None:
    torch.save({"model": STATE, "epoch": 3}, tmp_path / "a.pth")
    assert_equal(read_legacy(tmp_path / "a.pth", key="model"), STATE)
    with pytest.raises(CheckpointError, match="'model' is a dict"):
        read_legacy(tmp_path / "a.pth")


def test_parameters_and_module_state_dicts_are_read(tmp_path: Path) -> None:
    module = torch.nn.Linear(2, 3)
    torch.save(module.state_dict(), tmp_path / "a.pth")
    torch.save(dict(module.named_parameters()), tmp_path / "b.pth")
    for name in ("a.pth", "b.pth"):
        state = read_legacy(tmp_path / name)
        assert_equal(state, dict(module.state_dict()))
        assert not any(tensor.requires_grad for tensor in state.values())


class Planted:
    """Creates a file as soon as it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_malicious_pickle_is_refused_without_side_effects(tmp_path: Path, as_zip: bool) -> None:
    trace = tmp_path / "trace"
    torch.save(
        {"state_dict": STATE, "x": Planted(trace)}, tmp_path / "a.ckpt", _use_new_zipfile_serialization=as_zip
    )
    with pytest.raises(CheckpointError, match="refused, because it holds the Python object") as caught:
        read_legacy(tmp_path / "a.ckpt")
    assert "weights_only" not in str(caught.value)
    assert not trace.exists()


@pytest.mark.parametrize("module", ["os", "posix", "builtins", "subprocess"])
def test_hand_written_pickles_are_refused_without_side_effects(
    tmp_path: Path, module: str, monkeypatch
) -> None:
    monkeypatch.setenv("TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD", "1")
    trace = tmp_path / "trace"
    call, argument = {
        "os": ("system", f"touch {trace}"),
        "posix": ("system", f"touch {trace}"),
        "builtins": ("exec", f'open("{trace}","w")'),
        "subprocess": ("getoutput", f"touch {trace}"),
    }[module]
    (tmp_path / "a.pth").write_bytes(f"c{module}\n{call}\n(S'{argument}'\ntR.".encode())
    with pytest.raises(CheckpointError, match=r"a\.pth: "):
        read_legacy(tmp_path / "a.pth")
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore:Sparse invariant checks")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ([1, 2], "holds a list, not tensors by name"),
        (torch.zeros(2), "holds a Tensor, not tensors by name"),
        ({"w": torch.zeros(2), "epoch": 3}, "'epoch' is a int; allowed: dense tensors"),
        ({"w": {"x": torch.zeros(2)}}, "'w' is a dict; allowed"),
        ({3: torch.zeros(2)}, "3 is a Tensor; allowed"),
        ({"state_dict": {"w": None}}, "'w' is a NoneType; allowed"),
        ({"s": torch.eye(2).to_sparse()}, "'s' is a Tensor; allowed: dense"),
    ],
)
def test_other_content_is_refused_with_the_reason(tmp_path: Path, content, reason: str) -> None:
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=reason):
        read_legacy(tmp_path / "a.pth")


def test_files_that_are_not_of_torch_save_are_refused(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "good.pth")
    good = (tmp_path / "good.pth").read_bytes()
    for content in (b"", b"hello", good[: len(good) // 2], good[:-1], b"PK\x03\x04", b"\x80\x02"):
        (tmp_path / "bad.pth").write_bytes(content)
        with pytest.raises(CheckpointError, match=r"bad\.pth: is not a whole file of torch\.save"):
            read_legacy(tmp_path / "bad.pth")
    with zipfile.ZipFile(tmp_path / "bad.pth", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10_000)
    with pytest.raises(CheckpointError, match="compressed archive"):
        read_legacy(tmp_path / "bad.pth")
    with zipfile.ZipFile(tmp_path / "bad.pth", "w") as archive:
        archive.writestr("archive/constants.pkl", b"")
    with pytest.raises(CheckpointError, match="TorchScript"):
        read_legacy(tmp_path / "bad.pth")


def test_size_and_kind_are_checked_before_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(STATE, tmp_path / "a.pth")
    size = (tmp_path / "a.pth").stat().st_size
    assert read_legacy(tmp_path / "a.pth", max_bytes=size).keys() == STATE.keys()
    with pytest.raises(CheckpointError, match=f"has {size} bytes, more than the limit of {size - 1}"):
        read_legacy(tmp_path / "a.pth", max_bytes=size - 1)
    for path in (tmp_path, tmp_path / "none.pth"):
        with pytest.raises(CheckpointError, match="is missing, or is not a regular file"):
            read_legacy(path)

    def refuse(*_args, **_kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(CheckpointError, match="cannot be read: Permission denied"):
        read_legacy(tmp_path / "a.pth")


def test_the_header_is_what_other_tools_read(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a", {"n": torch.tensor([1, 2], dtype=torch.int8), "w": torch.tensor(1.0)})
    content = (tmp_path / "a").read_bytes()
    size = int.from_bytes(content[:8], "little")
    assert json.loads(content[8 : 8 + size]) == {
        "w": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]},
        "n": {"dtype": "I8", "shape": [2], "data_offsets": [4, 6]},
    }
    assert content[8 + size :] == b"\0\0\x80\x3f\x01\x02"


# --- what a stranger may put in the place of weights


def test_a_header_with_very_many_tensors_is_refused_before_it_is_parsed(tmp_path: Path, monkeypatch) -> None:
    path = tmp_path / "a.safetensors"
    entry = '"%d":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}'
    many = ",".join(entry % i for i in range(MAX_TENSORS + 1))
    path.write_bytes(safetensors_bytes("{" + many + "}"))
    with pytest.raises(CorruptCheckpoint, match=f"has {MAX_TENSORS + 1} tensors, at most {MAX_TENSORS} are"):
        load_tensors(path)
    monkeypatch.setattr(json, "loads", lambda *_args, **_options: pytest.fail("the header was parsed"))
    with path.open("wb") as file:
        file.write((90 * 2**20).to_bytes(8, "little"))
        file.truncate(90 * 2**20 + 8)
    with pytest.raises(
        CorruptCheckpoint, match=r"a\.safetensors: .*the header has 94371840 bytes, at most 4194304"
    ):
        load_tensors(path)


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path) -> None:
    empty = torch.zeros(0)
    save_tensors(tmp_path / "most", {str(i): empty for i in range(MAX_TENSORS)})
    assert len(load_tensors(tmp_path / "most")) == MAX_TENSORS
    for tensors in ({str(i): empty for i in range(MAX_TENSORS + 1)}, {"x" * MAX_HEADER_BYTES: empty}):
        with pytest.raises(
            CheckpointError, match=r"cannot write .*allowed: at most 10000 tensors and 4194304 bytes"
        ):
            save_tensors(tmp_path / "a", tensors)


@pytest.mark.timeout(60)
def test_a_repeated_name_is_found_among_many(tmp_path: Path) -> None:
    entries = [f'"{i}":0' for i in [*range(200_000), 199_999]]  # counting each name would take hours
    (tmp_path / "a").write_bytes(safetensors_bytes("{" + ",".join(entries) + "}"))
    with pytest.raises(CorruptCheckpoint, match="gives '199999' twice"):
        load_tensors(tmp_path / "a")


@pytest.mark.timeout(60)  # opening a pipe waits for its writer
@pytest.mark.parametrize("read", [load_tensors, read_legacy])
def test_a_named_pipe_in_the_place_of_weights_is_refused(tmp_path: Path, read) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: .* regular file"):
        read(tmp_path / "model.safetensors")
    (tmp_path / "link").symlink_to("/dev/zero")
    with pytest.raises(CheckpointError, match=r"link: .* regular file"):
        read(tmp_path / "link")


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_tensors_that_are_not_plain_data_are_refused(tmp_path: Path) -> None:
    nested = torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])
    quantised = torch.quantize_per_tensor(torch.zeros(3), 0.1, 0, torch.qint8)
    endless = torch.zeros(1).expand(10**12)  # four bytes in the file
    for value in (nested, quantised, endless, torch.zeros(2, device="meta")):
        torch.save({"w": value}, tmp_path / "a.pth")
        with pytest.raises(CheckpointError, match=r"a\.pth: 'w' is a Tensor; allowed: dense tensors by name"):
            read_legacy(tmp_path / "a.pth")


def test_a_legacy_file_of_very_many_values_is_refused(tmp_path: Path) -> None:
    value = torch.zeros(1)
    torch.save({str(i): value for i in range(MAX_TENSORS + 1)}, tmp_path / "a.pth")
    with pytest.raises(
        CheckpointError, match=f"holds {MAX_TENSORS + 1} values; allowed: at most {MAX_TENSORS}"
    ):
        read_legacy(tmp_path / "a.pth")
