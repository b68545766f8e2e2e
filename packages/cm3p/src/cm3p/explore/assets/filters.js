// Which maps are shown: modes, ranges of years and stars, and the search.

// {modes: Set of hidden modes, years: [low, high], stars: [low, high], clauses, others: "dim" or "hide"}; null is no
// limit. A map without a value is outside every limit. Returns HIDDEN, DIMMED or SHOWN for each map.
function statesOf(table, { hiddenModes, years, stars, clauses, others }) {
  const states = matchingRows(clauses, table);
  const missed = others === "dim" ? DIMMED : HIDDEN;
  for (let row = 0; row < table.rows; row++) states[row] = states[row] ? SHOWN : missed;
  hideWhere(states, table.column("Mode"), (column, row) => hiddenModes.has(column.text(row)));
  hideWhere(states, table.column("Year"), outside(years));
  hideWhere(states, table.column("DifficultyRating"), outside(stars));
  return states;
}

function hideWhere(states, column, test) {
  if (!column) return;
  for (let row = 0; row < states.length; row++) if (test(column, row)) states[row] = HIDDEN;
}

function outside([low, high]) {
  if (low === null && high === null) return () => false;
  return ({ values }, row) => !(values[row] >= (low ?? -Infinity) && values[row] <= (high ?? Infinity));
}

function rowsIn(states, state) {
  const rows = [];
  for (let row = 0; row < states.length; row++) if (states[row] === state) rows.push(row);
  return rows;
}
