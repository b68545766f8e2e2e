// Nearest maps by the cosine of their vectors, compared with every map.

class Neighbours {
  #norms = null;

  constructor(vectors, dimension) {
    this.vectors = vectors; // Int8Array (maps * dimension)
    this.dimension = dimension;
    this.rows = vectors.length / dimension;
    this.cosines = new Float32Array(this.rows); // of the last query
  }

  // The `count` maps that are nearest to a row, of those for which `allowed(row)` is true: [{row, cosine}], nearest
  // first, of equal ones the lower row.
  nearest(row, count, allowed) {
    this.#compare(row);
    const best = [];
    for (let other = 0; other < this.rows; other++) {
      const cosine = this.cosines[other];
      if (best.length === count && !(cosine > best[count - 1].cosine)) continue;
      if (other === row || !allowed(other)) continue;
      let at = best.length;
      while (at > 0 && best[at - 1].cosine < cosine) at--;
      best.splice(at, 0, { row: other, cosine });
      if (best.length > count) best.pop();
    }
    return best;
  }

  #compare(row) {
    this.#norms ??= Float32Array.from({ length: this.rows }, (_, each) => Math.sqrt(this.#dot(each, each)));
    const norms = this.#norms;
    for (let other = 0; other < this.rows; other++) {
      this.cosines[other] = this.#dot(row, other) / (norms[row] * norms[other]);
    }
  }

  #dot(a, b) {
    const { vectors, dimension } = this;
    let sum = 0;
    for (let i = a * dimension, j = b * dimension, end = i + dimension; i < end; i++, j++) {
      sum += vectors[i] * vectors[j];
    }
    return sum;
  }
}
