"""``cm3p info``, ``convert`` and ``push``."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
import torch

from cm3p.publishing.upload import PushOptions, push
from cm3p.weights import from_pretrained, load_directory
from pentatonic.checkpoint import load_tensors
from pentatonic.errors import HubError

GOLDENS = Path(__file__).parent / "goldens"
MODEL = GOLDENS / "saved_full"
Command = Callable[..., tuple[int, str, str]]


class Client:
    """Remembers calls in place of the hub."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.dtypes: set[torch.dtype] = set()

    def create_repo(self, repo_id: str, **options: Any) -> None:
        self.calls.append(("create", {"repo_id": repo_id, **options}))

    def upload_folder(self, *, folder_path: str, **options: Any) -> None:
        for name in options["allow_patterns"]:
            assert Path(folder_path, name).is_file()
        if "model.safetensors" in options["allow_patterns"]:
            tensors = load_tensors(Path(folder_path, "model.safetensors"))
            self.dtypes = {tensor.dtype for tensor in tensors.values()}
        self.calls.append(("upload", options))


def test_info(cm3p_command: Command) -> None:
    status, out, _ = cm3p_command("info", MODEL, "--json")
    found = json.loads(out)
    parameters = sum(each.numel() for each in from_pretrained(MODEL).parameters())
    assert status == 0 and found["class"] == "CM3PModel" and found["parameters"] == parameters
    assert (
        found["windows"] == "4 s, hop 4 s"
        and found["licence"] == "not stated"
        and found["embedding_size"] == 8
    )
    assert "2 mappers, 2 tags" in found["metadata vocabulary"]
    for name in ("saved_classifier", "saved_mlm"):
        assert cm3p_command("info", GOLDENS / name)[0] == 0
    status, out, _ = cm3p_command("info")
    assert status == 0 and "OliBomby/CM3P-ranked-classifier" in out and "not stated for the weights" in out
    status, _, messages = cm3p_command("info", GOLDENS / "missing")
    assert status == 1 and "there is no model" in messages


@pytest.mark.parametrize("name", ["saved_full", "saved_mlm", "saved_classifier"])
def test_convert(name: str, tmp_path: Path, cm3p_command: Command) -> None:
    out = tmp_path / "converted"
    (tmp_path / "downloaded").mkdir()
    shutil.copytree(GOLDENS / name, tmp_path / "downloaded", dirs_exist_ok=True)
    (tmp_path / "downloaded" / "modeling_cm3p.py").write_text("raise SystemExit('code was executed')")
    status, shown, _ = cm3p_command("convert", tmp_path / "downloaded", "--out", out, "--dtype", "fp16")
    assert status == 0 and shown.strip() == str(out)
    before, after = load_directory(GOLDENS / name).state_dict(), load_directory(out).state_dict()
    assert before.keys() == after.keys()
    for key, tensor in before.items():
        torch.testing.assert_close(after[key], tensor.half().float(), rtol=0, atol=0)
    assert {each.dtype for each in load_tensors(out / "model.safetensors").values()} == {torch.float16}
    assert (out / "beatmap_tokenizer" / "vocab.json").is_file() and not (out / "modeling_cm3p.py").exists()


def test_convert_refuses(tmp_path: Path, cm3p_command: Command) -> None:
    status, _, messages = cm3p_command(
        "convert", MODEL, "--out", tmp_path / "x", "--model-class", "masked_lm"
    )
    assert status == 2 and "allowed: cm3p" in messages
    shutil.copytree(MODEL, tmp_path / "model")
    assert cm3p_command("convert", tmp_path / "model", "--out", tmp_path / "model")[0] == 2


def test_push_is_dry_without_upload(cm3p_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    client = Client()
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: client)
    status, out, messages = cm3p_command("push", MODEL, "--repo-id", "me/maps")
    assert (
        status == 0
        and "would go to me/maps" in out
        and "nothing was uploaded" in messages
        and not client.calls
    )
    assert (
        "model.safetensors" in out and "metadata_tokenizer/vocab.json" in out and "io.safetensors" not in out
    )
    status, out, _ = cm3p_command(
        "push", MODEL, "--repo-id", "me/maps", "--private", "--upload", "--revision", "dev"
    )
    assert status == 0 and [name for name, _ in client.calls] == ["create", "upload"]
    assert client.calls[0][1] == {"repo_id": "me/maps", "private": True, "exist_ok": True}
    assert client.calls[1][1]["revision"] == "dev" and client.dtypes == {torch.bfloat16}
    assert cm3p_command("push", MODEL, "--repo-id", "maps")[0] == 2
    assert cm3p_command("push", "OliBomby/CM3P", "--repo-id", "me/maps")[0] == 2


def test_push_of_the_processor_elsewhere() -> None:
    client = Client()
    uploads = push(MODEL, PushOptions("me/model", "me/processor", dtype="fp32"), client)
    assert [each.repo_id for each in uploads] == ["me/model", "me/processor"]
    assert set(uploads[0].files) == {"config.json", "model.safetensors", "README.md"}
    assert "processor_config.json" in uploads[1].files and client.dtypes == {torch.float32}
    (alone,) = push(MODEL, PushOptions("me/model", push_processor=False, as_is=True))
    assert set(alone.files) == {"config.json", "model.safetensors"}


def test_refusal_of_the_hub() -> None:
    class Refusing(Client):
        def create_repo(self, repo_id: str, **options: Any) -> None:
            raise PermissionError("403 Forbidden")

    with pytest.raises(HubError, match=r"cannot push to me/model \(PermissionError: 403"):
        push(MODEL, PushOptions("me/model"), Refusing())
