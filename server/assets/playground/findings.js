// The detections: boxes over the picture, and rows of the table. A box and its row light up together.

// Okabe and Ito's palette without black; people with any kind of colour vision can tell these colours apart.
const COLOURS = ["#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"];
const DARK = "#0072b2";

/** The colour of a label, by its hash (FNV-1a): the same in every response of every server. */
function colour(label) {
  let hash = 0x811c9dc5;
  for (const byte of new TextEncoder().encode(label)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return COLOURS[hash % COLOURS.length];
}

// With more boxes than this, labels would hide the picture: only the lit box shows its label.
const CROWD = 15;

const svg = (name, attributes = {}, ...children) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
};

export class Findings {
  /** `boxes` is an `<svg>` over the picture, and `rows` a `<tbody>`. */
  constructor(boxes, rows) {
    this.boxes = boxes;
    this.rows = rows;
    this.found = [];
    rows.addEventListener("keydown", (event) => this.#step(event));
  }

  /** Replaces the detections with those of a prediction. Rows are kept, with the focus and the pointer on them. */
  show({ image, predictions }) {
    this.found = predictions.map(({ label, probability, box }, index) => {
      const [outline, name] = drawn(label, box, image);
      const row = this.rows.rows[index] ?? this.#row(index);
      row.cells[0].textContent = label;
      row.cells[1].textContent = percent(probability, 1);
      for (const element of [outline, name, row]) {
        element.style.setProperty("--colour", colour(label));
        element.classList.toggle("dark", colour(label) === DARK);
      }
      this.#hover(outline, index);
      outline.addEventListener("click", () => row.focus({ preventScroll: true }));
      return { probability, area: box.width * box.height, box: outline, name, row };
    });
    while (this.rows.rows[this.found.length]) this.rows.deleteRow(-1);
    // Small boxes above large ones, where the pointer reaches them.
    const large = this.found.toSorted((a, b) => b.area - a.area);
    this.boxes.replaceChildren(...large.map(({ box }) => box), ...large.map(({ name }) => name));
    // Text must be displayed before its width can be measured.
    this.boxes.classList.remove("crowded");
    // All are measured before any is changed, so the browser makes one layout.
    const widths = large.map(({ name }) => name.querySelector("text").getComputedTextLength());
    large.forEach(({ name }, index) => fit(name, widths[index] + 12));
    this.#light(this.found.find(({ row }) => row.classList.contains("lit")));
  }

  /** Hides the objects below the threshold; returns the number that stays visible. */
  filter(threshold) {
    let count = 0;
    for (const { probability, row, box, name } of this.found) {
      const hidden = probability < threshold;
      for (const element of [row, box, name]) element.toggleAttribute("hidden", hidden);
      if (!hidden) count += 1;
    }
    this.boxes.classList.toggle("crowded", count > CROWD);
    this.#reach(this.#visible().find((one) => one === this.focused()) ?? this.#visible()[0]);
    return count;
  }

  focused() {
    return this.found.find(({ row }) => row === document.activeElement);
  }

  #row(index) {
    const row = this.rows.insertRow();
    row.insertCell();
    row.insertCell();
    this.#hover(row, index);
    row.addEventListener("focus", () => this.#light(this.found[index]));
    row.addEventListener("blur", () => this.#light(undefined));
    return row;
  }

  #hover(element, index) {
    element.addEventListener("pointerenter", () => this.#light(this.found[index]));
    element.addEventListener("pointerleave", () => this.#light(this.focused()));
  }

  #visible() {
    return this.found.filter(({ row }) => !row.hidden);
  }

  #light(lit) {
    this.boxes.classList.toggle("lit", Boolean(lit));
    for (const one of this.found) {
      for (const element of [one.row, one.box, one.name]) element.classList.toggle("lit", one === lit);
    }
  }

  // Tab reaches one row, and the arrow keys move from there.
  #reach(one) {
    for (const { row } of this.found) row.tabIndex = row === one?.row ? 0 : -1;
  }

  #step(event) {
    const visible = this.#visible();
    const at = visible.indexOf(this.focused());
    const last = visible.length - 1;
    const next = { ArrowDown: Math.min(at + 1, last), ArrowUp: Math.max(at - 1, 0), Home: 0, End: last }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    this.#reach(visible[next]);
    visible[next].row.focus();
  }
}

export const percent = (fraction, digits = 0) => `${(fraction * 100).toFixed(digits)} %`;

/** A box, and its label at one of its corners. */
function drawn(label, box, image) {
  const part = (length, whole) => `${(100 * length) / whole}%`;
  const [x, y] = [part(box.x, image.width), part(box.y, image.height)];
  const size = { width: part(box.width, image.width), height: part(box.height, image.height) };
  const all = { width: "100%", height: "100%" };
  const outline = svg("svg", { class: "box", x, y, ...size }, svg("rect", { class: "halo", ...all }), svg("rect", { class: "edge", ...all }));
  const right = box.x > 0.75 * image.width;
  const corner = { x: right ? part(box.x + box.width, image.width) : x, y };
  const name = svg("svg", { class: "name", ...corner }, svg("g", {}, svg("rect", { height: 20 }), svg("text", { y: 14 }, label)));
  name.classList.toggle("right", right);
  name.classList.toggle("inside", box.y < 0.06 * image.height);
  return [outline, name];
}

/** Sets the width of a label's background. */
function fit(name, width) {
  const [back, text] = name.firstChild.children;
  const left = name.classList.contains("right") ? -width : 0;
  back.setAttribute("width", width);
  back.setAttribute("x", left);
  text.setAttribute("x", left + 6);
}
