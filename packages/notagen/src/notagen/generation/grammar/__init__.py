"""Which characters keep a piece completable: a grammar of the music that the models write, one character at a time.

The grammar follows a piece from its prompt on and says at each step which of the 128 ids may come next, so that the
piece can still become well-formed by the rules of :mod:`notagen.notation.validation`. It is an automaton written as
generators: a rule yields what it allows, is sent what came, and calls other rules by ``yield from``; its place in the
code is its state. Rules never allow what they cannot finish (a length that leaves a bar too little room, a slur that
the last bar cannot close), so no choice is ever taken back. The ids of the codec are part of it: a patch ends where a
unit of the text does, and the piece with the end patch.

With each set of allowed ids comes one that lies on a short way to the end. Following it alone closes a piece from
anywhere, without the model; that is what happens when a limit is reached.

The lines before the music are in :mod:`~notagen.generation.grammar.header`, those of the music in
:mod:`~notagen.generation.grammar.body` (with :mod:`~notagen.generation.grammar.barlines` and
:mod:`~notagen.generation.grammar.plan`), the content of a bar in :mod:`~notagen.generation.grammar.bar` and
:mod:`~notagen.generation.grammar.durations`; :mod:`~notagen.generation.grammar.piece` puts them together.
"""

from notagen.generation.grammar.piece import Grammar
from notagen.generation.grammar.plan import BarPlan

__all__ = ["BarPlan", "Grammar"]
