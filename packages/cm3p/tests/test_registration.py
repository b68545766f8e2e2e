"""The Auto classes know the models, whichever package is imported first, and no code of a directory runs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

GOLDENS = Path(__file__).parent / "goldens"
HOSTILE = """
from pathlib import Path
Path(__file__).with_name("executed").touch()
raise SystemExit("code of a model directory was executed")
"""


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *arguments], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def downloaded(tmp_path: Path) -> Path:
    """A directory as the original saves it, whose code files are hostile."""
    folder = tmp_path / "downloaded"
    shutil.copytree(GOLDENS / "saved_full", folder)
    for name in (
        "configuration_cm3p",
        "modeling_cm3p",
        "processing_cm3p",
        "parsing_cm3p",
        "tokenization_cm3p",
    ):
        (folder / f"{name}.py").write_text(HOSTILE)
    return folder


@pytest.mark.parametrize(
    "imports",
    [
        "import cm3p; from transformers import AutoModel",
        "from transformers import AutoModel; import cm3p",
        "import cm3p.model; from transformers import AutoModel",
        "import cm3p.network.encoder; from transformers import AutoModel",
    ],
)
def test_a_downloaded_directory_loads_without_its_code(imports: str, downloaded: Path) -> None:
    code = f"{imports}\nimport sys\nprint(type(AutoModel.from_pretrained(sys.argv[1])).__module__)"
    assert run(code, str(downloaded)).split() == ["cm3p.model"]
    assert not (downloaded / "executed").exists()


def test_the_package_and_its_help_do_not_import_torch() -> None:
    run("import sys, cm3p, cm3p.cli; assert not {'torch', 'transformers'} & set(sys.modules)")


def test_tasks_have_their_classes() -> None:
    from transformers import AutoConfig, AutoModelForMaskedLM, AutoModelForSequenceClassification

    from cm3p import CM3PBeatmapConfig, CM3PForBeatmapClassification, CM3PForMaskedLM

    assert type(AutoModelForMaskedLM.from_pretrained(GOLDENS / "saved_mlm")) is CM3PForMaskedLM
    classifier = AutoModelForSequenceClassification.from_pretrained(GOLDENS / "saved_classifier")
    assert type(classifier) is CM3PForBeatmapClassification
    assert type(AutoConfig.from_pretrained(GOLDENS / "saved_mlm")) is CM3PBeatmapConfig
