// Elements that show maps. Metadata comes from strangers: it is only ever set as text, in elements of its own direction.

const MAP_PAGE = "https://osu.ppy.sh/beatmaps/";

// make("p", {className: "x"}, child, "text") creates an element.
function make(tag, properties, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

function isolated(text) {
  return make("bdi", {}, text);
}

// Isolated texts with dots between.
function dotted(texts) {
  return texts.flatMap((text, i) => (i ? [" · ", isolated(text)] : [isolated(text)]));
}

// A list entry that selects a map; `note` is set on the right.
function mapEntry(table, row, note, select) {
  const button = make(
    "button",
    { type: "button", onclick: () => select(row) },
    isolated(table.title(row)),
    ...(note ? [make("output", {}, note)] : []),
    make("small", {}, ...dotted(table.summary(row))),
  );
  button.dataset.row = row;
  return make("li", {}, button);
}

function showTip(tip, table, row, x, y) {
  tip.hidden = row < 0;
  if (row < 0) return;
  tip.children[0].textContent = table.title(row);
  tip.children[1].replaceChildren(...dotted(table.summary(row)));
  const { clientWidth, clientHeight } = tip.parentElement;
  const left = Math.min(x + 14, clientWidth - tip.offsetWidth - 8);
  const top = y + 18 + tip.offsetHeight > clientHeight ? y - tip.offsetHeight - 10 : y + 18;
  tip.style.transform = `translate(${Math.max(left, 4)}px, ${Math.max(top, 4)}px)`;
}

// The panel about the selected map: name, link, its neighbours and all columns.
function showDetails(panel, table, row, found, { count, otherSets }, { select, change, close }) {
  panel.hidden = row < 0;
  panel.replaceChildren();
  if (row < 0) return;
  panel.append(make("h2", {}, isolated(table.title(row))), make("p", {}, ...dotted(table.summary(row))));
  const actions = make("div", { className: "row" });
  const id = table.number(row, "Id");
  if (Number.isInteger(id) && id > 0) {
    actions.append(make("a", { href: MAP_PAGE + id, rel: "noopener noreferrer", target: "_blank" }, "Map page"));
  }
  actions.append(make("button", { type: "button", onclick: close, title: "Escape" }, "Close"));
  panel.append(actions, make("h3", {}, "Nearest maps"));
  const number = make("input", { id: "near-count", type: "number", min: 1, max: 50, value: count });
  number.onchange = () => change({ count: Math.min(Math.max(Math.round(number.valueAsNumber) || 1, 1), 50) });
  const controls = make("div", { className: "row" }, make("label", {}, "How many ", number));
  if (table.column("BeatmapSetId")) {
    const box = make("input", { id: "near-sets", type: "checkbox", checked: otherSets });
    box.onchange = () => change({ otherSets: box.checked });
    controls.append(make("label", {}, box, "of other sets only"));
  }
  const list = make("ol", { id: "near", className: "maps" });
  list.append(...found.map((each) => mapEntry(table, each.row, each.cosine.toFixed(3), select)));
  const columns = make("dl", {});
  for (const column of table.columns) {
    const text = column.text(row);
    if (text) columns.append(make("dt", {}, column.name), make("dd", {}, isolated(text)));
  }
  panel.append(controls, list, make("details", {}, make("summary", {}, "All columns"), columns));
}

function showLegend(list, { classes, codes }, states) {
  const counts = new Uint32Array(classes.length);
  for (let row = 0; row < codes.length; row++) if (states[row] === SHOWN) counts[codes[row]]++;
  list.replaceChildren(
    ...classes.flatMap(({ label, colour }, i) => {
      if (!counts[i]) return [];
      const swatch = make("i", {});
      swatch.style.background = colour;
      return [make("li", {}, swatch, isolated(label), make("span", {}, counts[i].toLocaleString("en")))];
    }),
  );
}
