"""Training through the real command line: debug run, resume, warm-up, fine-tuning, export."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from notagen.export import export
from notagen.model import NotaGen, NotaGenConfig
from notagen.prompts import model_prompts
from notagen.training.objective import NotaGenTraining
from notagen.training.preprocess import PreprocessConfig, preprocess
from notagen.training.train import OptimConfig, TrainConfig, main, optimizer
from notagen.weights import from_pretrained, save_pretrained
from pentatonic.errors import CheckpointError, ConfigError
from pentatonic.training import compose_config

pytest.importorskip("accelerate")
GOLDENS = json.loads((Path(__file__).parent / "goldens" / "preprocess.json").read_text())["cases"]
EXPERIMENTS = Path(__file__).parents[1] / "src" / "notagen" / "conf" / "experiment"


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A small data set with prompts."""
    folder = tmp_path_factory.mktemp("data")
    source = folder / "source"
    source.mkdir()
    for case in GOLDENS:
        if case["augmented"]:
            (source / f"{case['name']}.abc").write_text(case["input"])
    (source / "prompts.jsonl").write_text('{"path": "", "prompt": ["Folk", "Anon", "Flute"]}\n')
    config = PreprocessConfig(jobs=1)
    config.data.source, config.data.out = str(source), str(folder / "set")
    config.data.min_bars, config.data.eval_share = 1, 0.3
    preprocess(config)
    return folder / "set"


def overrides(data: Path, run: Path, *more: str) -> list[str]:
    sets = [f"data.train={data / 'augmented_train.jsonl'}", f"data.val={data / 'augmented_eval.jsonl'}"]
    return ["experiment=debug", *sets, f"run_dir={run}", *more]


def newest(run: Path) -> Path:
    return sorted((run / "checkpoints").glob("step-*"))[-1]


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "straight"
    result = main(overrides(data, run))
    assert (result.step, result.interrupted) == (8, False)
    return run


def test_a_finished_run_says_where_the_model_is(data, finished, tmp_path, capsys):
    main(overrides(data, finished))
    said = capsys.readouterr().out
    assert said == f"{finished} was finished already, at step 8; the model is {finished / 'best'}\n"
    main(overrides(data, tmp_path, "data.val=null", "trainer.max_steps=1"))
    model = tmp_path / "checkpoints" / "step-00000001"
    assert capsys.readouterr().out == f"{tmp_path} is finished, at step 1; the model is {model}\n"


def test_a_run_writes_its_description_and_a_line_per_step(finished):
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert [line["step"] for line in steps] == list(range(1, 9))
    assert [line["step"] for line in lines if "val_loss" in line] == [4, 8]
    assert steps[-1]["loss"] < steps[0]["loss"] < 6
    # Two steps of warm-up, which stay in force.
    assert [line["lr"] for line in steps] == pytest.approx([5e-4, *[1e-3] * 7])
    assert "patch_length: 64" in (finished / "config.yaml").read_text()


def test_a_resumed_run_is_bit_identical(data, finished, tmp_path):
    run = tmp_path / "resumed"
    assert main(overrides(data, run)).step == 8
    last = newest(run)
    for file in last.iterdir():
        file.unlink()
    last.rmdir()
    assert newest(run).name == "step-00000006"
    assert main(overrides(data, run)).step == 8
    straight, resumed = (load_file(newest(r) / "model.safetensors") for r in (finished, run))
    assert straight.keys() == resumed.keys()
    assert all(torch.equal(straight[key], resumed[key]) for key in straight)
    assert (run / "metrics.jsonl").read_text() == (finished / "metrics.jsonl").read_text()


def test_checkpoints_best_and_run_load_as_models(finished, tmp_path):
    best = json.loads((finished / "best" / "best.json").read_text())
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    losses = {line["step"]: line["val_loss"] for line in lines if "val_loss" in line}
    assert best["val_loss"] == losses[best["step"]] == min(losses.values())
    state = load_file(newest(finished) / "model.safetensors")
    for source in (finished, newest(finished)):
        model = from_pretrained(source)
        assert not model.training and model.config.width == 64
        assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
    kept = from_pretrained(finished / "best")
    assert kept.config == model.config
    if best["step"] == 8:
        assert all(torch.equal(tensor, state[name]) for name, tensor in kept.state_dict().items())
    with pytest.raises(CheckpointError, match="no complete checkpoint"):
        (tmp_path / "checkpoints").mkdir()
        from_pretrained(tmp_path)


def test_a_run_knows_the_prompts_of_its_pieces_and_of_the_model_it_started_from(data, finished, tmp_path):
    for source in (finished, finished / "best", newest(finished)):
        assert [p.text for p in model_prompts(source)] == ["%Folk\n%Anon\n%Flute\n"]
    start = tmp_path / "start"
    save_pretrained(from_pretrained(finished), start, notes={"prompts.json": {"Old": {"Nobody": ["Lute"]}}})
    main(overrides(data, tmp_path / "run", f"init_from={start}", "trainer.max_steps=1"))
    texts = [p.text for p in model_prompts(tmp_path / "run")]
    assert texts == ["%Old\n%Nobody\n%Lute\n", "%Folk\n%Anon\n%Flute\n"]


def test_an_export_in_half_precision_knows_its_prompts_and_training(data, finished, tmp_path):
    index = data / "augmented_train.jsonl"
    export(finished, tmp_path / "model", index=index, dtype=torch.float16)
    stored = load_file(tmp_path / "model" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {torch.float16}
    assert [p.text for p in model_prompts(tmp_path / "model")] == ["%Folk\n%Anon\n%Flute\n"]
    model, whole = from_pretrained(tmp_path / "model"), from_pretrained(finished)
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor.float(), whole.state_dict()[name], rtol=1e-3, atol=1e-4)
    lines = [json.loads(line) for line in (finished / "metrics.jsonl").read_text().splitlines()]
    card = (tmp_path / "model" / "README.md").read_text()
    assert (
        "| steps | 8 |" in card and f"| loss | {[x['loss'] for x in lines if 'loss' in x][-1]:.4g} |" in card
    )
    best = json.loads((finished / "best" / "best.json").read_text())
    export(finished / "best", tmp_path / "best-model", index=index)
    card = (tmp_path / "best-model" / "README.md").read_text()
    assert f"| steps | {best['step']} |" in card and f"| val_loss | {best['val_loss']:.4g} |" in card
    save_pretrained(whole, tmp_path / "same")
    assert {t.dtype for t in load_file(tmp_path / "same" / "model.safetensors").values()} == {torch.float32}


def test_fine_tuning_starts_from_a_model(data, finished, tmp_path):
    run = tmp_path / "run"
    options = [f"init_from={finished}", "trainer.max_steps=1", "optim.lr=1e-12", "optim.weight_decay=0"]
    main(overrides(data, run, "data.keys=near", *options))
    before, after = from_pretrained(finished).state_dict(), from_pretrained(run).state_dict()
    assert all(torch.allclose(before[name], after[name], atol=1e-9) for name in before)
    with pytest.raises(ConfigError, match="sizes"):
        main(overrides(data, tmp_path / "other", f"init_from={finished}", "model.patch_layers=2"))


def test_epochs_decide_the_steps(data, tmp_path):
    result = main(overrides(data, tmp_path / "run", "epochs=1", "data.batch_size=1", "data.val=null"))
    pieces = len((data / "augmented_train.jsonl").read_text().splitlines())
    assert result.step == pieces > 1
    with pytest.raises(ConfigError, match="epochs"):
        main(overrides(data, tmp_path / "none", "epochs=0"))


def test_only_matrices_decay():
    module = NotaGenTraining(NotaGenConfig(1, 1, 64, 1, 8))
    decayed, others = optimizer(module, OptimConfig(weight_decay=0.3)).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.3, 0.0)
    assert {tuple(p.shape) for p in decayed["params"]} == {(192, 64), (64, 64), (256, 64), (64, 256)}
    assert sum(p.numel() for g in (decayed, others) for p in g["params"]) == sum(
        p.numel() for p in module.parameters()
    )


@pytest.mark.parametrize("path", sorted(EXPERIMENTS.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_experiment_composes(path):
    config = compose_config(
        "notagen.conf", [f"experiment={path.stem}", "data.train=x"], TrainConfig, config_name="train"
    )
    model = NotaGenConfig.from_dict(config.model)
    assert model.width == 64 * model.heads
    assert config.schedule.schedule(config.optim.lr, config.trainer.max_steps)(0) > 0


@pytest.mark.parametrize("name", ["small", "medium", "large"])
def test_released_sizes(name):
    config = compose_config(
        "notagen.conf", [f"model={name}", "data.train=x", "run_dir=y"], TrainConfig, config_name="train"
    )
    with torch.device("meta"):
        model = NotaGen(NotaGenConfig.from_dict(config.model))
    wanted = {"small": 109_579_776, "medium": 243_677_184, "large": 515_738_880}[name]
    # The released files count a token table of one row, which nothing reads.
    assert sum(p.numel() for p in model.parameters()) + model.config.width == wanted


def test_wrong_configurations_name_the_key(data, tmp_path):
    for option, said in (
        ("optim.rate=1", "unknown key 'optim.rate'"),
        ("model.depth=3", "unknown key depth"),
        ("data.keys=all", "uniform, near, original"),
    ):
        with pytest.raises(ConfigError, match=said):
            main(overrides(data, tmp_path / "run", f"+{option}" if "depth" in option else option))


@pytest.mark.slow
def test_sigterm_saves_and_exits_130(data, tmp_path):
    options = overrides(data, tmp_path, "trainer.max_steps=100000", "data.val=null")
    process = subprocess.Popen(
        [sys.executable, "-m", "notagen", "train", *options],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    deadline = time.monotonic() + 120
    while not list((tmp_path / "checkpoints").glob("step-*")) and time.monotonic() < deadline:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130, stderr
    step = json.loads((tmp_path / "interrupted.json").read_text())["step"]
    assert newest(tmp_path).name == f"step-{step:08d}"
