// Rows as a CSV file (RFC 4180, UTF-8 with a mark for spreadsheets).

// What a spreadsheet would take for a formula; full-width signs count in some.
const FORMULA = /^\s*[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]/;

function csvOf(table, rows) {
  const lines = [table.columns.map((column) => column.name), ...rows.map((row) => csvRow(table, row))];
  return "\ufeff" + lines.map((line) => line.join(",") + "\r\n").join("");
}

function csvRow(table, row) {
  return table.columns.map((column) => (column.isText ? csvText(column.text(row)) : column.text(row)));
}

function csvText(text) {
  const safe = FORMULA.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

function saveFile(name, text, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}
