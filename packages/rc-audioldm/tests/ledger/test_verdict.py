"""Verdicts: the strictest licence decides, the sentence says which, and credits can be pasted."""

from __future__ import annotations

import pytest

from rc_audioldm.ledger.verdict import Source, judge

CVSSP = Source("model", "cvssp/audioldm2", "CC BY-NC-SA 4.0")
FREE = Source("model", "own", "CC0 1.0")


def clip(licence: str, name: str = "a.wav", author: str = "") -> Source:
    return Source("clip", name, licence, author)


@pytest.mark.parametrize(
    ("sources", "verdict", "reason"),
    [
        ([FREE], "publishable", "CC0 1.0 of model own: asks for nothing"),
        ([FREE, clip("CC BY 4.0")], "publishable", "CC BY 4.0 of clip a.wav: asks for credit only"),
        ([FREE, clip("CC BY-SA 3.0")], "publishable", "asks for credit and for the same licence"),
        (
            [CVSSP, clip("CC0 1.0")],
            "non-commercial",
            "CC BY-NC-SA 4.0 of model cvssp/audioldm2: forbids commercial",
        ),
        ([CVSSP, clip("unknown")], "unknown", "unknown licence of clip a.wav: nobody says"),
        ([FREE, clip("my own terms")], "unknown", "my own terms of clip a.wav: nobody says"),
        ([CVSSP, clip("CC BY-ND 4.0")], "unknown", "CC BY-ND 4.0 of clip a.wav: forbids changed versions"),
        ([FREE, clip("CC Sampling+ 1.0")], "unknown", "has restrictions of its own"),
        ([FREE, clip("CC NC-Sampling+ 1.0")], "non-commercial", "forbids commercial use"),
        ([], "publishable", "no licence"),
    ],
)
def test_the_strictest_licence_decides(sources: list[Source], verdict: str, reason: str) -> None:
    judgement = judge(sources)
    assert judgement.verdict == verdict and reason in judgement.reason


def test_many_clips_of_one_licence_are_counted_together() -> None:
    judgement = judge([FREE, *(clip("CC BY 4.0", f"{number}.wav") for number in range(5))])
    assert judgement.decided_by == ("CC BY 4.0 of clip 0.wav, clip 1.wav, clip 2.wav and 2 more",)
    assert len(judgement.attribution) == 5


def test_share_alike_licences_that_differ_are_pointed_out() -> None:
    conflict = "cannot all be met"
    assert any(conflict in note for note in judge([CVSSP, clip("CC BY-SA 4.0")]).notes)
    assert not any(conflict in note for note in judge([CVSSP, clip("CC BY-NC-SA 3.0")]).notes)
    assert not any(conflict in note for note in judge([CVSSP, clip("CC BY 4.0")]).notes)


def test_credits_name_title_author_licence_and_its_address_on_one_line_each() -> None:
    found = judge(
        [CVSSP, clip("CC BY 3.0", "x\n.wav", "Ann"), clip("CC0 1.0"), clip("CC BY", "y.wav", "unknown")]
    )
    assert found.attribution == (
        'Made with the model "cvssp/audioldm2", licensed under CC BY-NC-SA 4.0 '
        "(https://creativecommons.org/licenses/by-nc-sa/4.0/).",
        'Uses the sound "x .wav" by Ann, licensed under CC BY 3.0 (https://creativecommons.org/licenses/by/3.0/); '
        "changed.",
        'Uses the sound "y.wav", licensed under CC BY; changed.',
    )
