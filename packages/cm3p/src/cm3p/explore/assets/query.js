// Searches: words, "words in quotes" and `column op value`, all of which must hold.

const QUERY_TOKEN = /([^\s"=!<>]+|"[^"]+")\s*(!=|<=|>=|=|<|>)\s*("[^"]*"|[^\s"]+)|"([^"]*)"|(\S+)/g;
const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)$/;
const WHOLE_NUMBER = /^[+-]?\d+$/;
const NUMBER_TOLERANCE = 0.01;

const TEXT_TESTS = {
  "=": (text, value) => text.includes(value),
  "!=": (text, value) => !text.includes(value),
  "<": (text, value) => text < value,
  ">": (text, value) => text > value,
  "<=": (text, value) => text <= value,
  ">=": (text, value) => text >= value,
};

const NUMBER_TESTS = {
  "=": (number, value) => Math.abs(number - value) < NUMBER_TOLERANCE,
  "!=": (number, value) => !(Math.abs(number - value) < NUMBER_TOLERANCE), // also where it is missing
  "<": (number, value) => number < value,
  ">": (number, value) => number > value,
  "<=": (number, value) => number <= value,
  ">=": (number, value) => number >= value,
};

// Exact; missing ids are undefined, which fulfils != only.
const ID_TESTS = {
  "=": (id, value) => id === value,
  "!=": (id, value) => id !== value,
  "<": (id, value) => id < value,
  ">": (id, value) => id > value,
  "<=": (id, value) => id <= value,
  ">=": (id, value) => id >= value,
};

class QueryError extends Error {}

// Parse a search into clauses: {column, op, value}, or {word}. Throws QueryError with a message for people.
function parseQuery(text, table) {
  const clauses = [];
  for (const [, name, op, operand, quoted, word] of text.matchAll(QUERY_TOKEN)) {
    if (op) {
      clauses.push(comparison(unquoted(name), op, unquoted(operand), table));
    } else if (word?.includes('"')) {
      throw new QueryError(`A quote is not closed in ${word}`);
    } else {
      const wanted = (quoted ?? word).toLowerCase();
      const unfinished = /^(.+?)(!=|<=|>=|=|<|>)$/.exec(wanted);
      if (quoted === undefined && unfinished && table.column(unfinished[1])) {
        throw new QueryError(`${word} needs a value`);
      }
      if (wanted) clauses.push({ word: wanted });
    }
  }
  return clauses;
}

function unquoted(text) {
  return text.startsWith('"') ? text.slice(1, -1) : text;
}

function comparison(name, op, operand, table) {
  const column = table.column(name);
  if (!column) throw new QueryError(`There is no column ${name}; put words with signs into quotes`);
  if (column.isText) return { column, op, value: operand.toLowerCase() };
  if (column.isId) {
    if (!WHOLE_NUMBER.test(operand)) throw new QueryError(`${name} needs a whole number, not ${operand}`);
    return { column, op, value: wholeNumber(operand) };
  }
  if (!NUMBER.test(operand)) throw new QueryError(`${name} needs a number, not ${operand}`);
  return { column, op, value: Number(operand) };
}

function wholeNumber(text) {
  return BigInt(text.replace(/^\+/, ""));
}

// One byte for each row: whether all clauses hold. A missing value fulfils != only.
function matchingRows(clauses, table) {
  const matching = new Uint8Array(table.rows).fill(1);
  for (const clause of clauses) {
    const holds = clause.column ? clauseTest(clause) : wordTest(clause.word, table);
    for (let row = 0; row < table.rows; row++) {
      if (matching[row] && !holds(row)) matching[row] = 0;
    }
  }
  return matching;
}

function clauseTest({ column, op, value }) {
  if (column.isId) {
    const test = ID_TESTS[op];
    return (row) => test(column.id(row), value);
  }
  if (!column.isText) {
    const test = NUMBER_TESTS[op];
    return (row) => test(column.values[row], value);
  }
  const hits = column.lowered.map((text) => TEXT_TESTS[op](text, value));
  return (row) => hits[column.codes[row]] ?? op === "!=";
}

function wordTest(word, table) {
  const tests = table.columns
    .filter((column) => column.isText || (column.isId ? WHOLE_NUMBER : NUMBER).test(word))
    .map((column) => clauseTest({ column, op: "=", value: wordValue(word, column) }));
  return (row) => tests.some((test) => test(row));
}

function wordValue(word, column) {
  if (column.isText) return word;
  return column.isId ? wholeNumber(word) : Number(word);
}
