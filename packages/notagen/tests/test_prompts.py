"""The prompts the models were trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from notagen.prompts import Prompt, find_prompt, prompts
from pentatonic.errors import UsageError

TRIPLES = json.loads((Path(__file__).parent / "goldens" / "prompts.json").read_text())["prompts"]


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


@pytest.mark.parametrize(
    ("triple", "message"),
    [
        (("Romantik", "Chopin, Frederic", "Keyboard"), "unknown period 'Romantik'; did you mean 'Romantic'"),
        (("Romantic", "Chopin, Fredric", "Keyboard"), "did you mean 'Chopin, Frederic'"),
        (("Romantic", "Schumann", "Keyboard"), "did you mean 'Schumann, Clara' or 'Schumann, Robert'"),
        (("Romantic", "Chopin, Frederic", "Keybord"), "did you mean 'Keyboard'"),
        (("Renaissance", "Chopin, Frederic", "x"), "known: Baroque; Classical; Romantic"),
        (("Romantic", "Bach, Johann Sebastian", "Choral"), "allowed: Baroque, Chamber; Baroque, Choral"),
        (("Romantic", "Chopin, Frederic", "Choral"), "allowed: Romantic, Art Song; Romantic, Keyboard"),
        (("", "Chopin, Frederic", "Keyboard"), "unknown period ''"),
    ],
)
def test_refusals(triple, message):
    with pytest.raises(UsageError) as caught:
        find_prompt(*triple)
    assert message in str(caught.value)
