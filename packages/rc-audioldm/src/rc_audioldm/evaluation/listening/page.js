"use strict";
const fields = [...document.querySelectorAll("fieldset")];
const players = [...document.querySelectorAll("audio")];
const listener = document.getElementById("listener");
const state = document.getElementById("state");
const store = "listening test " + location.pathname;

// One recording at a time.
for (const player of players) {
  player.addEventListener("play", () => players.forEach((other) => other !== player && other.pause()));
}

function answers() {
  return fields.map((field) => ({
    pair_id: field.dataset.pair,
    criterion: field.dataset.criterion,
    preference: field.querySelector("input:checked")?.value ?? "",
    confidence: field.querySelector("select").value,
    listener_id: listener.value.trim(),
  }));
}

function changed() {
  const rows = answers();
  state.textContent = `${rows.filter((row) => row.preference).length} of ${rows.length} answered`;
  try { localStorage.setItem(store, JSON.stringify(rows)); } catch { /* a browser may forbid it */ }
}

try {
  const rows = new Map((JSON.parse(localStorage.getItem(store)) ?? []).map((row) => [row.pair_id, row]));
  for (const field of fields) {
    const row = rows.get(field.dataset.pair);
    if (!row) continue;
    field.querySelectorAll("input").forEach((input) => { input.checked = input.value === row.preference; });
    field.querySelector("select").value = row.confidence;
    listener.value = row.listener_id;
  }
} catch { /* nothing was kept */ }

document.addEventListener("change", changed);
document.getElementById("save").addEventListener("click", () => {
  const cell = (text) => `"${text.replaceAll('"', '""')}"`;
  const rows = answers();
  const lines = [Object.keys(rows[0]), ...rows.map((row) => Object.values(row))].map((row) => row.map(cell).join(","));
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([lines.join("\n") + "\n"], { type: "text/csv" }));
  link.download = "answers.csv";
  link.click();
  URL.revokeObjectURL(link.href);
});
changed();
