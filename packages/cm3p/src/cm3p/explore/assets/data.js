"use strict";

// The data of the page: columns of metadata, and typed arrays that are decoded once and never copied.

class NumberColumn {
  isText = false;

  constructor({ name, values }) {
    this.name = name;
    this.values = Float64Array.from(values, (value) => value ?? NaN);
  }

  // As shown to people and written to files; empty where missing.
  text(row) {
    const value = this.values[row];
    return Number.isNaN(value) ? "" : String(value);
  }
}

// Whole numbers that are exact beyond 2^53, as BigInt; ids of unsubmitted maps are so large.
class IdColumn {
  isText = false;
  isId = true;
  #known;

  constructor({ name, values }) {
    this.name = name;
    this.values = BigInt64Array.from(values, (value) => BigInt(value ?? 0));
    this.#known = Uint8Array.from(values, (value) => value !== null);
  }

  // A BigInt; undefined where missing.
  id(row) {
    return this.#known[row] ? this.values[row] : undefined;
  }

  text(row) {
    return String(this.id(row) ?? "");
  }
}

// Each distinct text is stored once; codes[row] is its index, -1 where there is none.
class TextColumn {
  isText = true;
  #lowered = null;

  constructor({ name, values, codes }) {
    this.name = name;
    this.values = values;
    this.codes = Int32Array.from(codes);
  }

  text(row) {
    return this.values[this.codes[row]] ?? "";
  }

  get lowered() {
    this.#lowered ??= this.values.map((value) => value.toLowerCase());
    return this.#lowered;
  }
}

const COLUMN_KINDS = { number: NumberColumn, id: IdColumn, text: TextColumn };

// Short names for columns in a search.
const ALIASES = {
  stars: "difficultyrating",
  mapper: "creator",
  difficulty: "version",
  set: "beatmapsetid",
  length: "totallength",
  od: "accuracy",
  hp: "drain",
};

class Table {
  constructor(about) {
    this.rows = about.rows;
    this.columns = about.columns.map((each) => new COLUMN_KINDS[each.kind](each));
    this.byName = new Map(this.columns.map((column) => [column.name.toLowerCase(), column]));
  }

  // The column of this name or alias, in any case; undefined if the file has none.
  column(name) {
    const key = name.toLowerCase();
    return this.byName.get(key) ?? this.byName.get(ALIASES[key]);
  }

  text(row, name) {
    return this.column(name)?.text(row) ?? "";
  }

  // NaN where missing.
  number(row, name) {
    const column = this.column(name);
    return column && !column.isText ? Number(column.isId ? (column.id(row) ?? NaN) : column.values[row]) : NaN;
  }

  // Artist – title [difficulty], as far as they are known.
  title(row) {
    const song = [this.text(row, "Artist"), this.text(row, "Title")].filter(Boolean).join(" – ");
    const difficulty = this.text(row, "Version");
    const id = this.text(row, "Id");
    const name = [song, difficulty && `[${difficulty}]`].filter(Boolean).join(" ");
    return name || (id ? `Map ${id}` : `Row ${row + 1}`);
  }

  // Mapper, mode, stars and year, as far as they are known.
  summary(row) {
    const stars = this.number(row, "DifficultyRating");
    return [
      this.text(row, "Creator"),
      this.text(row, "Mode"),
      Number.isNaN(stars) ? "" : `${stars.toFixed(2)} ★`,
      this.text(row, "Year"),
    ].filter(Boolean);
  }
}

// The text of a data element, which is freed.
function takeText(id) {
  const element = document.getElementById(id);
  element.remove();
  return element.textContent;
}

function takeBinary(id) {
  const text = atob(takeText(id));
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = text.charCodeAt(i);
  return bytes.buffer;
}
