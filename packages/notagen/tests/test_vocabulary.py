"""Vocabularies: collected from pieces, stored with a model, and kept to by the grammar."""

import json
import random

import pytest

from notagen.codec import EOS
from notagen.generation.decoding import Limits, Request, generate
from notagen.generation.grammar import Grammar
from notagen.generation.sampling import Sampling
from notagen.model import NotaGen, NotaGenConfig
from notagen.notation.lines import is_music
from notagen.notation.validation import validate
from notagen.quantize import quantize
from notagen.vocabulary import ANYTHING, Vocabulary, collect_vocabulary, words_of
from notagen.weights import from_pretrained, save_pretrained
from pentatonic.errors import ConfigError

HEADER = "%%score 1 2\nL:1/8\nM:3/4\nK:C\nV:1 treble\nV:2 bass\n"
PIECE = (
    '%%score 1\nL:1/8\nM:3/4\nK:C\nV:1 treble nm="Flute" snm="Fl."\n'
    '[V:1]"^rit."!trill!c2 z (3d/e/f/|[V:1]Tc3/2"Gm7"[CE]/- [CE]4|]\n'
)
SMALL = Vocabulary(
    texts=("^rit.", "Gm7"),
    names=("Flute",),
    decorations=("!trill!", ".", "!fermata!"),
    lengths=("", "2", "3", "/"),
    rests=("z", "z2"),
    tuplets=("(3", "(3:2:2"),
)


def words(text):
    """The words of the music of a piece, by kind."""
    found = {}
    for line in text.split("\n"):
        for kind, word in words_of(line) if is_music(line) else ():
            found.setdefault(kind, set()).add(word)
    return found


def test_a_vocabulary_has_what_occurs():
    found = collect_vocabulary([PIECE, HEADER])
    assert found == Vocabulary(
        texts=("Gm7", "^rit."),
        names=("Fl.", "Flute"),
        decorations=("!trill!", "T"),
        lengths=("/", "2", "3/2", "4"),
        rests=("z",),
        tuplets=("(3",),
    )
    assert Vocabulary.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    assert Vocabulary.from_dict({}) == ANYTHING


@pytest.mark.parametrize("values", [[], {"text": []}, {"texts": "a"}, {"texts": [1]}])
def test_a_wrong_vocabulary_is_refused(values):
    with pytest.raises(ConfigError, match="vocabulary"):
        Vocabulary.from_dict(values)


def test_a_model_keeps_its_vocabulary(tmp_path):
    model = NotaGen(NotaGenConfig(1, 1, 64, 1, 64)).eval()
    save_pretrained(model, tmp_path / "without")
    assert not (tmp_path / "without" / "vocabulary.json").exists()
    assert from_pretrained(tmp_path / "without").vocabulary == ANYTHING
    model.vocabulary = SMALL
    save_pretrained(model, tmp_path / "with")
    assert from_pretrained(tmp_path / "with").vocabulary == SMALL
    (tmp_path / "with" / "vocabulary.json").write_text('{"words": []}')
    with pytest.raises(ConfigError, match=r"vocabulary\.json.*allowed: texts"):
        from_pretrained(tmp_path / "with")


def test_a_model_keeps_its_sampling(tmp_path):
    model = NotaGen(NotaGenConfig(1, 1, 64, 1, 64)).eval()
    model.sampling = Sampling(top_k=0, temperature=0.8)
    save_pretrained(model, tmp_path / "model")
    assert from_pretrained(tmp_path / "model").sampling == model.sampling
    assert quantize(model).sampling == model.sampling
    (tmp_path / "model" / "generation_config.json").write_text('{"temperature": -1}')
    with pytest.raises(ConfigError, match=r"generation_config\.json.*positive"):
        from_pretrained(tmp_path / "model")
    [stored] = generate(model, [Request(seed=1)], limits=Limits(patches=4))
    assert stored == generate(model, [Request(seed=1)], limits=Limits(patches=4), sampling=model.sampling)[0]
    assert stored != generate(model, [Request(seed=1)], limits=Limits(patches=4), sampling=Sampling())[0]


@pytest.mark.parametrize("meter", ["3/4", "6/8", "C"])
def test_nothing_else_is_written(meter):
    seen = {}
    for seed in range(60):
        rng, grammar, written = (
            random.Random(seed),
            Grammar(HEADER.replace("3/4", meter), vocabulary=SMALL),
            [],
        )
        for _ in range(300):
            if grammar.ended:
                break
            choices = [i for i in range(128) if grammar.allowed >> i & 1]
            tuplets = [i for i in choices if chr(i) in "(3:"]
            written.append(rng.choice(tuplets if tuplets and rng.random() < 0.5 else choices))
            grammar.feed(written[-1])
        text = HEADER.replace("3/4", meter) + "".join(chr(i) for i in written if i > EOS) + grammar.close()
        assert validate(text).issues == ()
        for kind, found in words(text).items():
            assert found <= set(getattr(SMALL, kind)), text
            seen[kind] = seen.get(kind, set()) | found
    assert seen == {kind: set(getattr(SMALL, kind)) for kind in seen} and len(seen) == 5


@pytest.mark.parametrize("empty", ["texts", "decorations", "rests", "tuplets"])
def test_what_never_occurs_is_not_offered(empty):
    grammar = Grammar(HEADER + "[V:1]", vocabulary=Vocabulary(**{**SMALL.__dict__, empty: ()}))
    first = {"texts": '"', "decorations": "!", "rests": "z", "tuplets": None}[empty]
    if first:
        assert not grammar.allowed >> ord(first) & 1
        assert Grammar(HEADER + "[V:1]", vocabulary=SMALL).allowed >> ord(first) & 1
    grammar.feed(ord("("))
    assert bool(grammar.allowed >> ord("3") & 1) == (empty != "tuplets")


def test_a_bar_that_its_lengths_cannot_fill_may_have_others():
    odd = Vocabulary(lengths=("2",), rests=())
    grammar = Grammar(HEADER.replace("3/4", "5/8") + "[V:1]c", vocabulary=odd)
    assert grammar.allowed >> ord("5") & 1
    fits = Grammar(HEADER + "[V:1]c", vocabulary=odd)
    assert not fits.allowed >> ord("5") & 1 and fits.allowed >> ord("2") & 1
    assert not fits.allowed >> EOS & 1


def test_lengths_are_in_lowest_terms():
    def takes(length):
        grammar = Grammar(HEADER.replace("L:1/8", "L:1/4") + "[V:1]c")
        for character in length:
            if not grammar.allowed >> ord(character) & 1:
                return False
            grammar.feed(ord(character))
        return bool(grammar.allowed >> ord("d") & 1)

    assert takes("11/16") and takes("3/2") and takes("/2") and takes("2")
    assert not takes("22/32") and not takes("2/4") and not takes("2/")
