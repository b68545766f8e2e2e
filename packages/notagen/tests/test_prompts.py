"""The prompts that models were trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from notagen.prompts import Prompt, find_prompt, model_prompts, prompts
from pentatonic.errors import ConfigError, UsageError

TRIPLES = json.loads((Path(__file__).parent / "goldens" / "prompts.json").read_text())["prompts"]
OWN = {"Folk": {"Irish": ["Fiddle", "Flute"]}, "Baroque": {"Bach, Johann Sebastian": ["Choral"]}}


def test_the_list():
    assert [[prompt.period, prompt.composer, prompt.instrumentation] for prompt in prompts()] == TRIPLES
    assert len(prompts()) == 112


def test_text():
    assert (
        Prompt("Romantic", "Chopin, Frederic", "Keyboard").text == "%Romantic\n%Chopin, Frederic\n%Keyboard\n"
    )


@pytest.mark.parametrize("triple", TRIPLES[::9])
def test_names_in_any_case(triple):
    found = find_prompt(*(f" {name.upper()}" for name in triple))
    assert [found.period, found.composer, found.instrumentation] == triple


def test_some_names_are_enough_where_they_leave_one_combination():
    assert find_prompt(composer="chaminade, cecile") == Prompt("Romantic", "Chaminade, Cecile", "Art Song")
    found = find_prompt(composer="chopin, frederic", instrumentation="keyboard")
    assert found == Prompt("Romantic", "Chopin, Frederic", "Keyboard")


@pytest.mark.parametrize(
    ("triple", "message"),
    [
        (("Romantik", "Chopin, Frederic", "Keyboard"), "unknown period 'Romantik'; did you mean 'Romantic'"),
        (("Romantic", "Chopin, Fredric", "Keyboard"), "did you mean 'Chopin, Frederic'"),
        (("Romantic", "Schumann", "Keyboard"), "did you mean 'Schumann, Clara' or 'Schumann, Robert'"),
        (("Romantic", "Chopin, Frederic", "Keybord"), "did you mean 'Keyboard'"),
        (("Renaissance", "Chopin, Frederic", "x"), "known: Baroque; Classical; Romantic"),
        (
            ("Romantic", "Bach, Johann Sebastian", "Choral"),
            "is not a prompt of this model; allowed with this composer: "
            "Baroque / Bach, Johann Sebastian / Chamber; Baroque / Bach, Johann Sebastian / Choral; ",
        ),
        (("Romantic", "Chopin, Frederic", "Choral"), "Romantic / Chopin, Frederic / Art Song; Romantic"),
        (("Baroque", None, "Art Song"), "with this period: Baroque / Bach, Johann Sebastian / Chamber; "),
        (("", "Chopin, Frederic", "Keyboard"), "unknown period ''"),
        ((None, "Chopin, Frederic", None), "is not enough for a prompt; allowed: Art Song; Keyboard"),
        (("Romantic",), "Berlioz, Hector, Choral; Bizet"),
        ((), "no name is not enough for a prompt; allowed: Baroque, Bach, Johann Sebastian, Chamber; "),
    ],
)
def test_refusals(triple, message):
    with pytest.raises(UsageError) as caught:
        find_prompt(*triple)
    assert message in str(caught.value)


def test_many_combinations_are_not_all_named():
    with pytest.raises(UsageError, match=r"; and 60 more$"):
        find_prompt(period="Romantic")


@pytest.mark.parametrize("place", [".", "model.safetensors"])
def test_a_model_directory_has_its_own_prompts(tmp_path, place):
    (tmp_path / "prompts.json").write_text(json.dumps(OWN))
    (tmp_path / "model.safetensors").touch()
    known = model_prompts(str(tmp_path / place))
    assert known[1] == Prompt("Folk", "Irish", "Flute") and len(known) == 3
    assert find_prompt(period="baroque", known=known).instrumentation == "Choral"
    with pytest.raises(
        UsageError, match=r"allowed with this composer: Folk / Irish / Fiddle; Folk / Irish / Flute$"
    ):
        find_prompt("Baroque", "Irish", "Fiddle", known=known)
    with pytest.raises(UsageError, match="unknown composer 'Haydn'; known: Irish; Bach, Johann Sebastian"):
        find_prompt(composer="Haydn", known=known)


def test_models_without_such_a_file(tmp_path):
    assert model_prompts(tmp_path) == model_prompts("notagen-x") == prompts()
    assert model_prompts("notagen-large") == ()
    with pytest.raises(UsageError, match="knows no prompts"):
        find_prompt("Romantic", known=())


@pytest.mark.parametrize(
    "text",
    ["[]", "{", "[" * 100_000, '{"a": 3}', '{"a": {"b": [1]}}', '{"a": {"b": 1}}', '{"a": {"b": "c"}}'],
)
def test_a_wrong_table_is_named(tmp_path, text):
    (tmp_path / "prompts.json").write_text(text)
    with pytest.raises(ConfigError, match=r"prompts\.json: not (an object|JSON)"):
        model_prompts(tmp_path)


@pytest.mark.parametrize(
    ("composer", "instrumentation", "found"),
    [
        ("Bach", "Choral", "Bach, Johann Sebastian"),
        ("clara schumann", None, None),
        ("Schumann, Cl", "Art Song", "Schumann, Clara"),
        ("Tchai", "Keyboard", "Tchaikovsky, Pyotr"),
        ("louise", "art", "Reichardt, Louise"),
    ],
)
def test_a_part_of_one_name_is_enough(composer, instrumentation, found):
    if found is None:
        with pytest.raises(UsageError, match="unknown composer"):
            find_prompt(composer=composer)
    else:
        assert find_prompt(composer=composer, instrumentation=instrumentation).composer == found


def test_a_part_of_several_names_is_refused_with_all_of_them():
    with pytest.raises(
        UsageError,
        match="'schumann' is a part of several names; did you mean 'Schumann, Clara' or 'Schumann, Robert'",
    ):
        find_prompt(composer="schumann", instrumentation="Art Song")
