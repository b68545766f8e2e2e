// The map itself. All points are written into the pixels of one canvas, a few million of plain stores for 50,000 of
// them; marks of single maps (selection, neighbours, hover) lie on a second canvas, so that they redraw nothing else.

const HIDDEN = 0;
const DIMMED = 1;
const SHOWN = 2;

const LEVELS = 8; // of coverage at the edge of a point
const FAINTEST = 2; // levels that are not drawn: they would put pale rings between points
const GRID = 128; // cells on a side, for finding the map below the pointer
const REACH = 9; // of the pointer, in CSS pixels
const MARGIN = 0.92; // of the window that the whole map takes

class MapView {
  draws = 0; // frames with points, and the points of the last one
  pointsDrawn = 0;
  #pending = false;

  constructor(points, marks, rows) {
    this.points = points;
    this.marks = marks;
    this.context = points.getContext("2d", { alpha: false, willReadFrequently: true });
    this.rows = rows;
    this.states = new Uint8Array(rows).fill(SHOWN);
    this.codes = new Uint8Array(rows);
    this.colours = [];
    this.selected = -1;
    this.hovered = -1;
    this.near = [];
    this.reset();
  }

  // Float32Array (rows * 2), in -1..1.
  setPositions(positions) {
    this.positions = positions;
    this.#index();
    this.reset();
  }

  // The class of each map, the colours of the classes and those of dimmed maps and of the background, as CSS.
  setColours(codes, colours, dimmed, background) {
    this.codes = codes;
    this.colours = [...colours, dimmed].map(rgbOf);
    this.background = rgbOf(background);
    this.redraw();
  }

  // HIDDEN, DIMMED or SHOWN for each map.
  setStates(states) {
    this.states = states;
    this.visible = states.reduce((count, state) => count + (state !== HIDDEN), 0);
    this.redraw();
  }

  reset() {
    this.x = this.y = 0; // the centre of the window, in units of the positions
    this.zoom = 1;
    this.redraw();
  }

  // Device pixels per unit of the positions.
  get scale() {
    return (Math.min(this.points.width, this.points.height) / 2) * MARGIN * this.zoom;
  }

  // Fit the canvases to their size on the page.
  resize() {
    const ratio = devicePixelRatio;
    for (const canvas of [this.points, this.marks]) {
      canvas.width = Math.max(1, Math.round(canvas.clientWidth * ratio));
      canvas.height = Math.max(1, Math.round(canvas.clientHeight * ratio));
    }
    this.image = this.context.createImageData(this.points.width, this.points.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.redraw();
  }

  // Move by CSS pixels.
  pan(x, y) {
    this.x -= (x * devicePixelRatio) / this.scale;
    this.y += (y * devicePixelRatio) / this.scale;
    this.redraw();
  }

  // Zoom by a factor; the place at these CSS pixels stays where it is.
  zoomAt(factor, x = this.points.clientWidth / 2, y = this.points.clientHeight / 2) {
    const before = this.#placeAt(x, y);
    this.zoom = Math.min(Math.max(this.zoom * factor, 0.5), 2000);
    const after = this.#placeAt(x, y);
    this.x += before[0] - after[0];
    this.y += before[1] - after[1];
    this.redraw();
  }

  // Bring a map into the window, if it is outside.
  reveal(row) {
    const [x, y] = this.pixelOf(row);
    const { width, height } = this.points;
    if (x > 0.05 * width && x < 0.95 * width && y > 0.05 * height && y < 0.95 * height) return;
    this.x = this.positions[2 * row];
    this.y = this.positions[2 * row + 1];
    this.redraw();
  }

  // Where a map is, in device pixels.
  pixelOf(row) {
    return [
      (this.positions[2 * row] - this.x) * this.scale + this.points.width / 2,
      (this.y - this.positions[2 * row + 1]) * this.scale + this.points.height / 2,
    ];
  }

  #placeAt(x, y) {
    return [
      this.x + (x * devicePixelRatio - this.points.width / 2) / this.scale,
      this.y - (y * devicePixelRatio - this.points.height / 2) / this.scale,
    ];
  }

  // The map nearest to these CSS pixels, of those that are not hidden; -1 where none is in reach. Shown ones come
  // before dimmed ones.
  mapAt(x, y) {
    const [placeX, placeY] = this.#placeAt(x, y);
    const reach = (REACH * devicePixelRatio) / this.scale;
    let best = -1;
    let least = Infinity;
    for (let row = cellOf(placeY - reach); row <= cellOf(placeY + reach); row++) {
      const first = this.starts[row * GRID + cellOf(placeX - reach)];
      const end = this.starts[row * GRID + cellOf(placeX + reach) + 1];
      for (let i = first; i < end; i++) {
        const map = this.order[i];
        if (this.states[map] === HIDDEN) continue;
        const distance = Math.hypot(this.positions[2 * map] - placeX, this.positions[2 * map + 1] - placeY);
        const rank = this.states[map] === SHOWN ? distance : distance + reach;
        if (distance <= reach && rank < least) [best, least] = [map, rank];
      }
    }
    return best;
  }

  // Sort the maps into the cells of a grid: those of cell c are order[starts[c]] to order[starts[c + 1] - 1].
  #index() {
    const cells = Uint16Array.from(
      { length: this.rows },
      (_, row) => cellOf(this.positions[2 * row + 1]) * GRID + cellOf(this.positions[2 * row]),
    );
    this.starts = new Int32Array(GRID * GRID + 1);
    for (const cell of cells) this.starts[cell + 1]++;
    for (let cell = 0; cell < GRID * GRID; cell++) this.starts[cell + 1] += this.starts[cell];
    const next = this.starts.slice();
    this.order = new Int32Array(this.rows);
    for (let row = 0; row < this.rows; row++) this.order[next[cells[row]]++] = row;
  }

  // Draw once before the next frame, however often this is called.
  redraw() {
    if (this.#pending) return;
    this.#pending = true;
    requestAnimationFrame(() => {
      this.#pending = false;
      this.draw();
    });
  }

  draw() {
    if (!this.pixels || !this.positions || !this.background) return;
    const stamp = this.#stamp();
    this.pixels.fill(packed(this.background));
    this.pointsDrawn = this.#paint(DIMMED, stamp) + this.#paint(SHOWN, stamp);
    this.context.putImageData(this.image, 0, 0);
    this.draws++;
    this.drawMarks();
  }

  // Radius of a point in device pixels: larger where there are few, in large windows, and when zoomed in.
  get radius() {
    const base = this.visible > 20000 ? 1.9 : this.visible > 4000 ? 2.5 : this.visible > 500 ? 3.3 : 4.5;
    const window = Math.min(this.points.clientWidth, this.points.clientHeight);
    const growth = Math.min(Math.max(window / 700, 0.75), 1.5) * Math.max(1, this.zoom) ** 0.35;
    return Math.min(base * growth, 9) * devicePixelRatio;
  }

  // The pixels of a point, as distances in the image, and their levels of coverage; and for each class the colour of
  // each level, mixed with the background: an edge of its own sets a point apart from those below it.
  #stamp() {
    const edge = Math.ceil(this.radius + 1);
    const offsets = [];
    const levels = [];
    for (let y = -edge; y <= edge; y++) {
      for (let x = -edge; x <= edge; x++) {
        const level = Math.round(Math.min(this.radius + 0.5 - Math.hypot(x, y), 1) * LEVELS);
        if (level > FAINTEST) {
          offsets.push(y * this.points.width + x);
          levels.push(level);
        }
      }
    }
    const shades = Uint32Array.from({ length: this.colours.length * (LEVELS + 1) }, (_, i) => {
      const share = (i % (LEVELS + 1)) / LEVELS;
      const colour = this.colours[Math.floor(i / (LEVELS + 1))];
      return packed(this.background.map((low, channel) => Math.round(low + (colour[channel] - low) * share)));
    });
    return { edge, offsets: Int32Array.from(offsets), levels: Uint8Array.from(levels), shades };
  }

  // Write all points of a state; returns how many are in the window.
  #paint(state, { edge, offsets, levels, shades }) {
    const { pixels, positions, states, codes, scale, rows } = this;
    const { width, height } = this.points;
    const originX = width / 2 - this.x * scale;
    const originY = height / 2 + this.y * scale;
    const dimmed = this.colours.length - 1;
    const count = offsets.length;
    let drawn = 0;
    for (let row = 0; row < rows; row++) {
      if (states[row] !== state) continue;
      const x = Math.round(originX + positions[2 * row] * scale);
      const y = Math.round(originY - positions[2 * row + 1] * scale);
      if (x < edge || y < edge || x >= width - edge || y >= height - edge) continue;
      const at = y * width + x;
      const shade = (state === DIMMED ? dimmed : codes[row]) * (LEVELS + 1);
      for (let i = 0; i < count; i++) pixels[at + offsets[i]] = shades[shade + levels[i]];
      drawn++;
    }
    return drawn;
  }

  // Lines to the neighbours, and rings around selected, neighbouring and hovered maps.
  drawMarks() {
    const context = this.marks.getContext("2d");
    const ratio = devicePixelRatio;
    context.clearRect(0, 0, this.marks.width, this.marks.height);
    const lines = new Path2D();
    const rings = new Path2D();
    const addRing = (path, row, distance) => {
      const [x, y] = this.pixelOf(row);
      const radius = this.radius + distance * ratio;
      path.moveTo(x + radius, y);
      path.arc(x, y, radius, 0, 2 * Math.PI);
    };
    if (this.selected >= 0) {
      for (const row of this.near) {
        lines.moveTo(...this.pixelOf(this.selected));
        lines.lineTo(...this.pixelOf(row));
        addRing(rings, row, 2);
      }
      addRing(rings, this.selected, 4);
      addRing(rings, this.selected, 7);
    }
    if (this.hovered >= 0) addRing(rings, this.hovered, 3);
    // Each mark has a border in the colour of the background, so that it is seen on points of every colour.
    for (const [path, width] of [[lines, 1], [rings, 1.75]]) {
      context.strokeStyle = cssVariable("--map");
      context.lineWidth = (width + 2) * ratio;
      context.stroke(path);
      context.strokeStyle = cssVariable("--text");
      context.lineWidth = width * ratio;
      context.stroke(path);
    }
  }
}

function cellOf(position) {
  return Math.min(Math.max(Math.floor(((position + 1) / 2) * GRID), 0), GRID - 1);
}

function packed([red, green, blue]) {
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
