// The controls, and what they change.

const MOST_MATCHES = 50; // entries in the list of matches

const about = JSON.parse(takeText("about-data"));
const byId = (id) => document.getElementById(id);
const table = new Table(about);
delete about.columns; // the table has them
const allPositions = new Float32Array(takeBinary("positions-data"));
const allLabels = new Uint8Array(takeBinary("labels-data"));
const neighbours = new Neighbours(new Int8Array(takeBinary("vectors-data")), about.dimension);
const view = new MapView(byId("points"), byId("marks"), table.rows);

// What the page shows; the part in STORED is kept in the address, so that a link opens the same picture.
const state = {
  layout: about.layouts.length - 1,
  clusters: about.clusters,
  colour: "cluster",
  query: "",
  others: "dim",
  hiddenModes: new Set(),
  years: [null, null],
  stars: [null, null],
  selected: -1,
  count: 10,
  otherSets: false,
};
const STORED = ["layout", "clusters", "colour", "query", "others", "selected", "count", "otherSets", "years", "stars"];
const DEFAULTS = Object.fromEntries(STORED.map((key) => [key, JSON.stringify(state[key])]));

let colouring;
let storing = 0;

function recolour() {
  const at = about.clusterCounts.indexOf(state.clusters) * table.rows;
  colouring = colourClasses(state.colour, table, allLabels.subarray(at, at + table.rows));
  const colours = colouring.classes.map((each) => each.colour);
  view.setColours(colouring.codes, colours, cssVariable("--dimmed"), cssVariable("--map"));
  byId("groups").hidden = state.colour !== "cluster";
  showLegend(byId("legend"), colouring, view.states);
}

function relayout() {
  const { name, note } = about.layouts[state.layout];
  view.setPositions(allPositions.subarray(state.layout * table.rows * 2, (state.layout + 1) * table.rows * 2));
  byId("place").textContent = `${name}: ${note}`;
}

function refilter() {
  let clauses = [];
  byId("problem").hidden = true;
  try {
    clauses = parseQuery(state.query, table);
  } catch (error) {
    if (!(error instanceof QueryError)) throw error;
    byId("problem").textContent = error.message;
    byId("problem").hidden = false;
  }
  view.setStates(statesOf(table, { ...state, clauses }));
  const shown = rowsIn(view.states, SHOWN);
  const [count, all] = [shown.length, table.rows].map((number) => number.toLocaleString("en"));
  byId("count").textContent = shown.length === table.rows ? `${all} maps` : `${count} of ${all} maps`;
  const listed = clauses.length ? shown.slice(0, MOST_MATCHES) : [];
  byId("matches").replaceChildren(...listed.map((row) => mapEntry(table, row, "", select)));
  showLegend(byId("legend"), colouring, view.states);
}

function showSelected() {
  const { selected, count, otherSets } = state;
  const set = table.text(selected, "BeatmapSetId");
  const allowed = otherSets ? (row) => !set || table.text(row, "BeatmapSetId") !== set : () => true;
  const found = selected < 0 ? [] : neighbours.nearest(selected, count, allowed);
  view.selected = selected;
  view.near = found.map((each) => each.row);
  view.drawMarks();
  const change = (changes) => {
    Object.assign(state, changes);
    showSelected();
    store();
  };
  const panel = byId("details");
  const focused = panel.contains(document.activeElement) ? document.activeElement.id : null;
  showDetails(panel, table, selected, found, state, { select, change, close: () => select(-1) });
  // Who works by keys stays where they were, or at what has changed.
  if (focused !== null) (byId(focused) ?? (selected < 0 ? byId("marks") : panel)).focus();
}

// Select a map; -1 for none.
function select(row) {
  state.selected = row;
  if (row >= 0) view.reveal(row);
  showSelected();
  byId("details").scrollIntoView({ block: "nearest" });
  store();
}

// Browsers limit how often an address may change, so it follows a pause.
function store() {
  clearTimeout(storing);
  storing = setTimeout(writeAddress, 150);
}

function writeAddress() {
  const changed = STORED.filter((key) => JSON.stringify(state[key]) !== DEFAULTS[key]);
  const entries = changed.map((key) => [key, typeof state[key] === "string" ? state[key] : JSON.stringify(state[key])]);
  const hash = new URLSearchParams(entries).toString();
  history.replaceState(null, "", hash ? `#${hash}` : location.pathname + location.search);
}

// Take from the address what is valid; a link may come from anywhere.
function restore() {
  const given = new URLSearchParams(location.hash.slice(1));
  const whole = (key, low, high) => {
    const number = /^\d{1,9}$/.test(given.get(key) ?? "") ? Number(given.get(key)) : NaN;
    if (number >= low && number <= high) state[key] = number;
  };
  const oneOf = (key, allowed) => {
    if (allowed.includes(given.get(key))) state[key] = given.get(key);
  };
  const range = (key) => {
    const found = /^\[(null|[\d.]{1,9}),(null|[\d.]{1,9})\]$/.exec(given.get(key) ?? "");
    if (found) state[key] = found.slice(1).map((text) => (Number.isNaN(Number(text)) ? null : Number(text)));
  };
  whole("layout", 0, about.layouts.length - 1);
  whole("clusters", about.clusterCounts[0], about.clusterCounts.at(-1));
  whole("selected", 0, table.rows - 1);
  whole("count", 1, 50);
  oneOf("colour", availableColourings(table));
  oneOf("others", ["dim", "hide"]);
  range("years");
  range("stars");
  state.query = (given.get("query") ?? "").slice(0, 1000);
  state.otherSets = given.get("otherSets") === "true";
}

function fillSelect(id, options, key, changed) {
  const element = byId(id);
  element.append(...options.map(([value, label]) => make("option", { value }, label)));
  element.value = state[key];
  element.onchange = () => {
    state[key] = typeof state[key] === "number" ? Number(element.value) : element.value;
    changed();
    store();
  };
}

function setUpRange(id, key, column) {
  if (!table.column(column)) return;
  byId(id).hidden = false;
  byId(id).querySelectorAll("input").forEach((input, end) => {
    input.value = state[key][end] ?? "";
    input.oninput = () => {
      state[key][end] = Number.isNaN(input.valueAsNumber) ? null : input.valueAsNumber;
      refilter();
      store();
    };
  });
}

function setUpModes() {
  const column = table.column("Mode");
  if (!column) return;
  const present = [...new Set(column.codes)].map((code) => column.values[code] ?? "").sort();
  byId("modes").hidden = present.length < 2;
  for (const mode of present) {
    const box = make("input", { type: "checkbox", checked: true, value: mode });
    box.onchange = () => {
      state.hiddenModes[box.checked ? "delete" : "add"](mode);
      refilter();
    };
    byId("modes").append(make("label", {}, box, isolated(mode || "unknown")));
  }
}

function setUpControls() {
  fillSelect("layout", about.layouts.map(({ name }, i) => [i, name]), "layout", relayout);
  fillSelect("clusters", about.clusterCounts.map((count) => [count, count]), "clusters", recolour);
  fillSelect("colour", availableColourings(table).map((name) => [name, COLOURINGS[name]]), "colour", recolour);
  fillSelect("others", [], "others", refilter);
  byId("layouts").hidden = about.layouts.length < 2;
  setUpModes();
  setUpRange("years", "years", "Year");
  setUpRange("stars", "stars", "DifficultyRating");
  byId("query").value = state.query;
  byId("query").oninput = () => {
    state.query = byId("query").value;
    refilter();
    store();
  };
  byId("export").onclick = () => {
    saveFile(`${about.name}.csv`, csvOf(table, rowsIn(view.states, SHOWN)), "text/csv");
  };
  for (const button of document.querySelectorAll("[data-zoom]")) {
    const factor = Number(button.dataset.zoom);
    button.onclick = () => (factor ? view.zoomAt(factor) : view.reset());
  }
}

function setUpTexts() {
  const whole = (number) => number.toLocaleString("en");
  byId("name").textContent = about.name;
  byId("columns").textContent = `${table.columns.map((column) => column.name).join(", ")}; also ${Object.keys(ALIASES).join(", ")}.`;
  const lines = [];
  if (about.rows + about.unusable < about.total) {
    lines.push(`${whole(about.rows)} of the ${whole(about.total)} maps of the file, drawn at random.`);
  }
  if (about.unusable) lines.push(`${whole(about.unusable)} rows without a usable vector are left out.`);
  lines.push(
    `Each map is a vector of ${whole(about.dimension)} numbers. To keep this page small they are rounded to 8 bits for the ` +
      `nearest maps: ${(100 * about.agreement).toFixed(1)} % of the ten nearest are those of the exact vectors, over up to 100 maps.`,
    "Groups are by k-means on the exact vectors. Nothing of this page is sent anywhere, and it loads nothing.",
  );
  byId("about").append(...lines.map((line) => make("p", {}, line)));
}

function setUpPointer() {
  const canvas = byId("marks");
  const pointers = new Map(); // id -> last place; two of them pinch
  let travelled = 0;
  const hover = (row, event) => {
    if (row !== view.hovered) {
      view.hovered = row;
      view.drawMarks();
    }
    canvas.classList.toggle("over", row >= 0);
    showTip(byId("tip"), table, row, event.offsetX, event.offsetY);
  };
  canvas.onpointerdown = (event) => {
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    travelled = pointers.size > 1 ? Infinity : 0;
  };
  canvas.onpointermove = (event) => {
    const now = [event.offsetX, event.offsetY];
    const last = pointers.get(event.pointerId);
    if (!last) return hover(view.mapAt(...now), event);
    const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
    if (other) {
      const distance = ([x, y]) => Math.max(Math.hypot(x - other[0], y - other[1]), 1);
      view.zoomAt(distance(now) / distance(last), ...other);
    } else {
      travelled += Math.hypot(now[0] - last[0], now[1] - last[1]);
      if (travelled >= 4) view.pan(now[0] - last[0], now[1] - last[1]);
    }
    pointers.set(event.pointerId, now);
  };
  canvas.onpointerup = (event) => {
    if (pointers.delete(event.pointerId) && travelled < 4) select(view.mapAt(event.offsetX, event.offsetY));
  };
  canvas.onpointercancel = (event) => pointers.delete(event.pointerId);
  canvas.onpointerleave = (event) => hover(-1, event);
  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      view.zoomAt(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0015)), event.offsetX, event.offsetY);
    },
    { passive: false },
  );
}

function setUpKeyboard() {
  const onMap = {
    ArrowLeft: () => view.pan(40, 0),
    ArrowRight: () => view.pan(-40, 0),
    ArrowUp: () => view.pan(0, 40),
    ArrowDown: () => view.pan(0, -40),
    "+": () => view.zoomAt(1.25),
    "=": () => view.zoomAt(1.25),
    "-": () => view.zoomAt(0.8),
    0: () => view.reset(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input, select");
    if (event.key === "Escape" && !typing) select(-1);
    else if (event.key === "/" && !typing) byId("query").focus();
    else if (event.target === byId("marks") && event.key in onMap) onMap[event.key]();
    else return;
    event.preventDefault();
  });
}

restore();
setUpTexts();
setUpControls();
setUpPointer();
setUpKeyboard();
relayout();
recolour();
refilter();
showSelected();
new ResizeObserver(() => {
  view.resize();
  view.draw(); // at once: a resized canvas is empty
}).observe(byId("points"));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
