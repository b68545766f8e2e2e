// Colours of the maps: each scheme sorts them into a few classes.

const STAR_LIMITS = [2.0, 2.7, 4.0, 5.3, 6.5, 8.0];
const MODE_HUES = { osu: 350, taiko: 40, fruits: 140, mania: 270 };
const MOST_CREATORS = 12;

const COLOURINGS = {
  cluster: "group",
  mode: "mode",
  status: "status",
  creator: "mapper",
  year: "year",
  difficulty: "difficulty",
  none: "none",
};

function isDark() {
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

function cssVariable(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

// Colours for unordered classes: evenly spaced hues, in turns lighter and darker.
function distinctColour(index, count) {
  const lightness = (isDark() ? [0.78, 0.62] : [0.68, 0.48])[index % 2];
  return `oklch(${lightness} 0.16 ${(20 + (360 * index) / count) % 360})`;
}

// Colours for ordered classes; `share` is 0 for the first one and 1 for the last.
function orderedColour(share) {
  const lightness = isDark() ? 0.5 + 0.38 * share : 0.42 + 0.34 * share;
  return `oklch(${lightness} 0.15 ${(290 - 210 * share + 360) % 360})`;
}

// From blue over green and yellow to red and purple, as players know it.
function starColour(index) {
  const hue = [245, 195, 145, 95, 45, 10, 310][index];
  const lightness = (isDark() ? [0.7, 0.78, 0.8, 0.84, 0.74, 0.66, 0.58] : [0.6, 0.65, 0.66, 0.74, 0.66, 0.55, 0.42])[index];
  return `oklch(${lightness} 0.15 ${hue})`;
}

function rangeLabel(low, high) {
  if (low === undefined) return `below ${high.toFixed(1)} ★`;
  return high === undefined ? `from ${low.toFixed(1)} ★` : `${low.toFixed(1)} – ${high.toFixed(1)} ★`;
}

// The names of the schemes for which the table has the column.
function availableColourings(table) {
  const columns = { mode: "Mode", status: "Status", creator: "Creator", year: "Year", difficulty: "DifficultyRating" };
  return Object.keys(COLOURINGS).filter((name) => !(name in columns) || table.column(columns[name]));
}

// {classes: [{label, colour}], codes: Uint8Array (rows)} of a scheme; `labels` are the groups of the maps.
function colourClasses(name, table, labels) {
  if (name === "cluster") {
    const count = labels.reduce((most, label) => Math.max(most, label), 0) + 1;
    const classes = Array.from({ length: count }, (_, i) => ({ label: `Group ${i + 1}`, colour: distinctColour(i, count) }));
    return { classes, codes: labels };
  }
  if (name === "none") {
    return { classes: [{ label: "Maps", colour: cssVariable("--accent") }], codes: new Uint8Array(table.rows) };
  }
  if (name === "difficulty") {
    const values = table.column("DifficultyRating").values;
    const classes = [...STAR_LIMITS, undefined].map((limit, i) => ({
      label: rangeLabel(STAR_LIMITS[i - 1], limit),
      colour: starColour(i),
    }));
    const classOf = (row) => (Number.isNaN(values[row]) ? -1 : STAR_LIMITS.filter((limit) => values[row] >= limit).length);
    return withUnknown(classes, table.rows, classOf);
  }
  if (name === "year") return yearClasses(table);
  return textClasses(name, table);
}

function yearClasses(table) {
  const values = table.column("Year").values;
  const years = [...new Set(values)].filter((year) => !Number.isNaN(year)).sort((a, b) => a - b);
  const classes = years.map((year, i) => ({
    label: String(year),
    colour: orderedColour(years.length > 1 ? i / (years.length - 1) : 1),
  }));
  const index = new Map(years.map((year, i) => [year, i]));
  return withUnknown(classes, table.rows, (row) => index.get(values[row]) ?? -1);
}

// The most frequent texts of a column; further ones share a class.
function textClasses(name, table) {
  const column = table.column(name);
  const counts = new Uint32Array(column.values.length);
  for (const code of column.codes) if (code >= 0) counts[code]++;
  const order = [...counts.keys()].filter((code) => counts[code]).sort((a, b) => counts[b] - counts[a] || a - b);
  const named = order.slice(0, MOST_CREATORS);
  const classes = named.map((code, i) => {
    const label = column.values[code];
    const hue = name === "mode" ? MODE_HUES[label.toLowerCase()] : undefined;
    return { label, colour: hue === undefined ? distinctColour(i, named.length) : `oklch(${isDark() ? 0.74 : 0.6} 0.17 ${hue})` };
  });
  if (order.length > named.length) classes.push({ label: `${order.length - named.length} others`, colour: cssVariable("--quiet") });
  const classOfCode = new Uint8Array(column.values.length).fill(named.length);
  named.forEach((code, i) => (classOfCode[code] = i));
  return withUnknown(classes, table.rows, (row) => (column.codes[row] < 0 ? -1 : classOfCode[column.codes[row]]));
}

// `classOf(row)` is -1 where the value is missing; a class for those comes last.
function withUnknown(classes, rows, classOf) {
  const codes = Uint8Array.from({ length: rows }, (_, row) => {
    const found = classOf(row);
    return found < 0 ? classes.length : found;
  });
  return { classes: [...classes, { label: "unknown", colour: cssVariable("--unknown") }], codes };
}

// Red, green and blue of any CSS colour, 0 to 255.
function rgbOf(colour) {
  const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  context.fillStyle = colour;
  context.fillRect(0, 0, 1, 1);
  return context.getImageData(0, 0, 1, 1).data;
}
