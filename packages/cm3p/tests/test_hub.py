"""Uploads by the hub's own client, to a server on this machine that speaks the few calls that it makes."""

from __future__ import annotations

import base64
import json
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from huggingface_hub import constants

from cm3p.publishing.upload import PushOptions, push
from cm3p.weights import load_directory
from pentatonic.errors import HubError

MODEL = Path(__file__).parent / "goldens" / "saved_full"
TOKEN = "hf_written_down_nowhere"
PROCESSOR = {
    "processor_config.json",
    "audio_feature_extractor/preprocessor_config.json",
    "beatmap_parser/preprocessor_config.json",
    *(
        f"{part}_tokenizer/{name}.json"
        for part in ("beatmap", "metadata")
        for name in ("special_tokens_map", "tokenizer_config", "vocab")
    ),
}
Command = Callable[..., tuple[int, str, str]]


class Hub(ThreadingHTTPServer):
    """Keeps the files of commits.

    Attributes:
        files: Repository to the files that were committed.
        made: What repositories were made with.
        refuses: Call at which permission is denied.
        drops: Call at which the connection is closed without an answer.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Calls)
        self.files: dict[str, dict[str, bytes]] = {}
        self.made: list[dict[str, Any]] = []
        self.refuses = self.drops = "no call"

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Calls(BaseHTTPRequestHandler):
    """Answers of the hub."""

    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        call, repo_id = self.path.rpartition("/")[2], "/".join(self.path.split("/")[3:5])
        if "preupload" in self.path:
            call = "preupload"
        elif "/commit/" in self.path:
            call = "commit"
        if call == self.server.drops:
            self.close_connection = True
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif call == self.server.refuses:
            self._answer(403, {"error": "You don't have the rights to create a model under this namespace"})
        elif call == "create":
            values = json.loads(body)
            self.server.made.append(values)
            repo_id = f"{values.get('organization') or 'somebody'}/{values['name']}"
            self.server.files.setdefault(repo_id, {})
            self._answer(200, {"url": f"{self.server.address}/{repo_id}", "name": repo_id, "id": "1"})
        elif call == "preupload":
            files = [
                {"path": each["path"], "uploadMode": "regular", "shouldIgnore": False}
                for each in json.loads(body)["files"]
            ]
            self._answer(200, {"files": files})
        elif call == "commit":
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    self.server.files[repo_id][line["value"]["path"]] = content
            address = f"{self.server.address}/{repo_id}/commit/0123456789abcdef"
            self._answer(200, {"commitUrl": address, "commitOid": "0123456789abcdef"})
        else:  # such as a check of the model card
            self._answer(200, {"errors": [], "warnings": []})

    def do_GET(self) -> None:
        self._answer(404, {"error": "not found"})

    def _answer(self, status: int, values: dict[str, Any]) -> None:
        text = json.dumps(values).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Hub]:
    with Hub() as server:
        monkeypatch.setattr(constants, "ENDPOINT", server.address)
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no token"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        monkeypatch.delenv("HUGGING_FACE_HUB_TOKEN", raising=False)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_push_uploads_the_files_of_the_model(hub: Hub, tmp_path: Path, cm3p_command: Command) -> None:
    status, out, messages = cm3p_command("push", MODEL, "--repo-id", "me/maps", "--private", "--upload")
    assert status == 0 and "uploaded to me/maps" in out, messages
    assert hub.made[0]["organization"] == "me"
    assert hub.made[0].get("private") or hub.made[0].get("visibility") == "private"
    files = hub.files["me/maps"]
    assert set(files) == PROCESSOR | {"config.json", "model.safetensors", "README.md"}
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(content)
    before, after = load_directory(MODEL).state_dict(), load_directory(tmp_path).state_dict()
    assert all(after[key].equal(tensor.bfloat16().float()) for key, tensor in before.items())


def test_push_as_it_is_leaves_out_what_is_no_part_of_a_model(hub: Hub, tmp_path: Path) -> None:
    run_dir = shutil.copytree(MODEL, tmp_path / "run")
    shutil.copytree(MODEL, run_dir / "checkpoint-4")
    for name in (
        "metrics.jsonl",
        ".lock",
        "example_data/data/1.osu",
        "wandb/run.log",
        "checkpoint-4/optimizer.pt",
    ):
        (run_dir / name).parent.mkdir(parents=True, exist_ok=True)
        (run_dir / name).write_text("private")
    push(run_dir, PushOptions("me/maps", as_is=True), huggingface_hub.HfApi())
    assert set(hub.files["me/maps"]) == PROCESSOR | {"config.json", "model.safetensors"}
    assert hub.files["me/maps"]["model.safetensors"] == (MODEL / "model.safetensors").read_bytes()


def test_refusals_are_messages(hub: Hub, monkeypatch: pytest.MonkeyPatch, cm3p_command: Command) -> None:
    arguments = ("push", MODEL, "--repo-id", "other/maps", "--upload")
    hub.refuses = "create"
    status, _, messages = cm3p_command(*arguments)
    assert status == 1 and messages.count("\n") == 1
    assert "cannot push to other/maps" in messages and "403" in messages and "rights" in messages
    hub.refuses = "no call"
    monkeypatch.delenv("HF_TOKEN")
    status, _, messages = cm3p_command(*arguments)
    assert status == 1 and messages.count("\n") == 1
    assert "401" in messages and "there is no token: hf auth login, or the variable HF_TOKEN" in messages
    assert not hub.files


@pytest.mark.parametrize("call", ["create", "commit"])
def test_a_dropped_connection_is_a_message(hub: Hub, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    monkeypatch.setattr("time.sleep", lambda _: None)
    hub.drops = call
    with pytest.raises(HubError, match=r"cannot push to me/maps \(\w+: .*disconnected"):
        push(MODEL, PushOptions("me/maps", as_is=True), huggingface_hub.HfApi())
    assert not hub.files.get("me/maps")


def test_training_pushes_its_model_alone(hub: Hub, tmp_path: Path, cm3p_command: Command) -> None:
    pytest.importorskip("accelerate")
    arguments = [
        *("train", "experiment=debug", f"run_dir={tmp_path / 'maps-tiny'}", "training.push_to_hub=true"),
        *("training.max_steps=1", "training.save_steps=1", "training.gradient_accumulation_steps=1"),
        *("training.do_eval=false", "dataset.example_sets=4"),
    ]
    hub.refuses = "create"
    status, _, messages = cm3p_command(*arguments)
    assert status == 1 and "cannot push to maps-tiny" in messages
    assert not list(tmp_path.glob("maps-tiny/checkpoint-*"))  # it is known before the work
    hub.refuses, hub.drops = "no call", "commit"
    status, _, messages = cm3p_command(*arguments)
    assert status == 1 and "cannot push to somebody/maps-tiny" in messages
    hub.drops = "no call"
    status, _, messages = cm3p_command(*arguments)
    assert status == 0, messages
    assert set(hub.files["somebody/maps-tiny"]) == PROCESSOR | {
        "config.json",
        "model.safetensors",
        "README.md",
    }
