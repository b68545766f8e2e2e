"""A grammar of the music that the models write: which characters may come next, so that a piece can still be completed.

The grammar follows a piece from its prompt on. For each character it gives the ids, of the 128, after which the piece
can still become well-formed by the rules of :mod:`notagen.notation.validation`. It is a state machine written as
generators: a rule yields the ids that it allows, is sent the id that was chosen, and calls other rules by ``yield
from``; its state is its position in the code. Rules never allow what they cannot finish (a length that leaves too
little room in the bar, a slur that the last bar cannot close), so no choice is ever undone. The special ids of the
codec are part of the grammar: a patch ends where a unit of the text ends, and a piece ends with the end patch.

With each set of allowed ids the grammar gives the first id of a short path to the end. Following that path completes a
piece from any point, without the model; generation does so when a limit is reached.

The lines before the music are in :mod:`~notagen.generation.grammar.header`, those of the music in
:mod:`~notagen.generation.grammar.body` (with :mod:`~notagen.generation.grammar.barlines` and
:mod:`~notagen.generation.grammar.plan`), the content of a bar in :mod:`~notagen.generation.grammar.bar` and
:mod:`~notagen.generation.grammar.durations`; :mod:`~notagen.generation.grammar.piece` puts them together.
"""

from notagen.generation.grammar.piece import Grammar
from notagen.generation.grammar.plan import BarPlan

__all__ = ["BarPlan", "Grammar"]
