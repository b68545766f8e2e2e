"""What is asked for: files of prompts, JSON lines, and what of them is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pentatonic.errors import FormatError, InputError, UsageError
from rc_audioldm.generation.requests import Defaults, Request, read_requests, requests_of
from rc_audioldm.generation.run_folder import clip_file, slug


def test_prompts_of_a_file_with_a_mark_and_comments(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xef\xbb\xbf# heading\n\n  slow cello \n#drum\na harp\n")
    found = read_requests(path, Defaults(negative="voice", strength=0.2), first=3)
    assert found == [
        Request("slow cello", 3, "voice", 0.2),
        Request("a harp", 4, "voice", 0.2),
    ]
    path.write_text("# nothing\n\n")
    with pytest.raises(InputError, match="has no prompts"):
        read_requests(path)


def test_json_lines_say_what_differs(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(
        '\ufeff{"prompt": "drum", "strength": 1, "negative": "hiss"}\n\n'
        '{"prompt": "a harp", "reference": "clips/a.wav", "reference_licence": "cc-by 4.0", "strength": null}\n'
        '{"prompt": "bass"}\n',
        encoding="utf-8",
    )
    defaults = Defaults("voice", 0.5, Path("other.wav"), "CC0 1.0")
    drum, harp, bass = read_requests(path, defaults)
    assert (drum.strength, drum.negative, drum.reference) == (1.0, "hiss", Path("other.wav"))
    assert (harp.reference, harp.reference_licence) == (tmp_path / "clips/a.wav", "CC BY 4.0")
    assert harp.strength == 0.5
    assert bass == Request("bass", 2, "voice", 0.5, Path("other.wav"), "CC0 1.0")


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ("[1]", "an object with the text 'prompt'"),
        ('{"prompt": 3}', "an object with the text 'prompt'"),
        ('{"prompt": " "}', "is empty"),
        ('{"prompt": "a", "strenght": 1}', "has 'strenght'; allowed: prompt, negative, strength"),
        ('{"prompt": "a", "strength": "1"}', "strength is '1'; allowed: 0 to 1"),
        ('{"prompt": "a", "strength": 1.5}', "strength is 1.5"),
        ('{"prompt": "a", "strength": true}', "strength is True"),
        ('{"prompt": "a", "negative": 1}', "negative is 1; allowed: text"),
        ('{"prompt": "a", "reference": ""}', "reference is ''"),
        ('{"prompt": "a", "reference": 1}', "reference is 1"),
        ("{", "not JSON"),
    ],
)
def test_a_line_that_cannot_be_used_is_named(tmp_path: Path, line: str, named: str) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_text(f'{{"prompt": "drum"}}\n{line}\n')
    with pytest.raises(FormatError, match=named) as caught:
        read_requests(path)
    assert caught.value.line == 2


@pytest.mark.parametrize(
    "values", [{"prompt": ""}, {"prompt": "a", "strength": float("nan")}, {"prompt": "a" * 10_001}]
)
def test_a_request_out_of_range(values: Any) -> None:
    with pytest.raises(UsageError):
        Request(**values)


def test_prompts_are_numbered() -> None:
    assert [each.index for each in requests_of(["a", "b"], first=5)] == [5, 6]


def test_names_of_files(golden: Any) -> None:
    import json

    content = json.loads((golden("text_rules").folder / "io.json").read_text(encoding="utf-8"))
    for prompt, expected in content["slug_safe"].items():
        assert slug(prompt) == expected
    assert clip_file(3, "slow cello", 0, 1) == "wav/003__slow_cello.wav"
    assert clip_file(3, "slow cello", 1, 2) == "wav/003__slow_cello__v1.wav"
    longest = Path(clip_file(999, "\U0002000b" * 200, 10, 20)).with_suffix(".ledger.json").name
    assert len(longest.encode()) < 255
