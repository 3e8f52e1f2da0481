// Points on a canvas: pan, zoom, pinch, hover and keys. Drawn here because chart libraries write inline styles or
// compile code, which the page's content policy forbids.

import { show } from "/page/api.js";

const MARGIN = 24;
const REACH = 14; // pixels around a point in which it is hovered
const MOST_ZOOM = 200;
const PICTURES = 90; // in view at most, for points to become pictures
const CELLS = 64; // of the index, along each side

export class Chart {
  // points: {x, y} in [-1, 1], y upwards. on: hover(index | null, x, y), pick(index), picture(index) → address.
  constructor(canvas, points, on) {
    this.canvas = canvas;
    this.x = points.x;
    this.y = points.y;
    this.on = on;
    this.colour = () => "#888";
    this.bright = () => true;
    this.at = { x: 0, y: 0, zoom: 1 };
    this.pictures = new Map();
    this.fingers = new Map();
    this.cells = index(this.x, this.y);
    new ResizeObserver(() => this.fit()).observe(canvas);
    this.listen();
  }

  paint(colour, bright) {
    this.colour = colour;
    this.bright = bright;
    this.redraw();
  }

  fit() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !height) return;
    const sharp = window.devicePixelRatio || 1;
    Object.assign(this, { width, height, sharp });
    this.canvas.width = Math.round(sharp * width);
    this.canvas.height = Math.round(sharp * height);
    this.redraw();
  }

  get scale() {
    return this.at.zoom * (Math.min(this.width, this.height) / 2 - MARGIN);
  }

  toScreen(index) {
    return [this.width / 2 + (this.x[index] - this.at.x) * this.scale, this.height / 2 - (this.y[index] - this.at.y) * this.scale];
  }

  toPlane(x, y) {
    return [this.at.x + (x - this.width / 2) / this.scale, this.at.y - (y - this.height / 2) / this.scale];
  }

  // Zoom by a factor, so that what is at a place of the screen stays there.
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const [px, py] = this.toPlane(x, y);
    this.at.zoom = Math.min(MOST_ZOOM, Math.max(0.7, this.at.zoom * factor));
    const [qx, qy] = this.toPlane(x, y);
    this.move(px - qx, py - qy);
  }

  move(x, y) {
    const inside = (value) => Math.min(1, Math.max(-1, value));
    this.at.x = inside(this.at.x + x);
    this.at.y = inside(this.at.y + y);
    this.redraw();
  }

  reset() {
    this.at = { x: 0, y: 0, zoom: 1 };
    this.redraw();
  }

  redraw() {
    this.due ??= requestAnimationFrame(() => {
      this.due = null;
      if (this.width) this.draw();
    });
  }

  draw() {
    const pen = this.canvas.getContext("2d");
    pen.setTransform(this.sharp, 0, 0, this.sharp, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    const seen = [];
    for (let index = 0; index < this.x.length; index++) {
      const [x, y] = this.toScreen(index);
      if (x > -40 && x < this.width + 40 && y > -40 && y < this.height + 40) seen.push([index, x, y]);
    }
    const bright = seen.filter(([index]) => this.bright(index));
    const size = Math.min(7, 2.4 * this.at.zoom ** 0.35);
    pen.globalAlpha = 0.14;
    this.dots(pen, seen.filter(([index]) => !this.bright(index)), size);
    pen.globalAlpha = 0.85;
    this.dots(pen, bright, size);
    pen.globalAlpha = 1;
    if (bright.length <= PICTURES && this.at.zoom > 2) for (const [index, x, y] of bright) this.drawPicture(pen, index, x, y);
    if (this.focused) this.cross(pen);
  }

  dots(pen, some, size) {
    const paths = new Map();
    for (const [index, x, y] of some) {
      const colour = this.colour(index);
      if (!paths.has(colour)) paths.set(colour, new Path2D());
      const path = paths.get(colour);
      path.moveTo(x + size, y);
      path.arc(x, y, size, 0, 2 * Math.PI);
    }
    for (const [colour, path] of paths) {
      pen.fillStyle = colour;
      pen.fill(path);
    }
  }

  drawPicture(pen, index, x, y) {
    let picture = this.pictures.get(index);
    if (!picture) {
      picture = new Image();
      this.pictures.set(index, picture);
      picture.addEventListener("load", () => this.redraw(), { once: true });
      show(picture, this.on.picture(index));
    }
    if (!picture.complete || !picture.naturalWidth) return;
    const side = 44;
    pen.fillStyle = this.colour(index);
    pen.fillRect(x - side / 2 - 2, y - side / 2 - 2, side + 4, side + 4);
    pen.drawImage(picture, x - side / 2, y - side / 2, side, side);
  }

  cross(pen) {
    const [x, y] = [this.width / 2, this.height / 2];
    pen.strokeStyle = getComputedStyle(this.canvas).color;
    pen.beginPath();
    for (const [dx, dy] of [[1, 0], [0, 1]]) {
      pen.moveTo(x - 10 * dx, y - 10 * dy);
      pen.lineTo(x + 10 * dx, y + 10 * dy);
    }
    pen.stroke();
  }

  // The nearest bright point to a place of the screen, within a reach in pixels; null without one.
  nearest(x, y, reach = REACH) {
    const [px, py] = this.toPlane(x, y);
    const far = reach / this.scale;
    let best = null, least = far * far;
    for (const index of this.cells(px - far, py - far, px + far, py + far)) {
      const away = (this.x[index] - px) ** 2 + (this.y[index] - py) ** 2;
      if (away <= least && this.bright(index)) [best, least] = [index, away];
    }
    return best;
  }

  hover(x, y, reach) {
    const index = this.nearest(x, y, reach);
    this.canvas.classList.toggle("over", index !== null);
    this.on.hover(index, ...(index === null ? [0, 0] : this.toScreen(index)));
  }

  listen() {
    const canvas = this.canvas;
    const place = (event) => [event.offsetX, event.offsetY];
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), ...place(event));
      this.hover(...place(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.fingers.set(event.pointerId, place(event));
      if (this.fingers.size === 1) this.travelled = 0;
    });
    canvas.addEventListener("pointermove", (event) => {
      const before = this.fingers.get(event.pointerId);
      if (!before) return this.hover(...place(event));
      const [x, y] = place(event);
      this.travelled += Math.hypot(x - before[0], y - before[1]);
      const other = [...this.fingers].find(([id]) => id !== event.pointerId)?.[1];
      if (other) {
        const spread = ([a, b]) => Math.max(1, Math.hypot(a - other[0], b - other[1]));
        this.zoom(spread([x, y]) / spread(before), (x + other[0]) / 2, (y + other[1]) / 2);
      } else this.move((before[0] - x) / this.scale, (y - before[1]) / this.scale);
      this.fingers.set(event.pointerId, [x, y]);
      if (this.travelled > 4) this.on.hover(null);
    });
    canvas.addEventListener("pointerup", (event) => {
      const alone = this.fingers.size === 1;
      this.fingers.delete(event.pointerId);
      if (!alone || this.travelled > 4) return;
      const index = this.nearest(...place(event), event.pointerType === "touch" ? 2 * REACH : REACH);
      if (index !== null) this.on.pick(index);
    });
    canvas.addEventListener("pointercancel", (event) => this.fingers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => this.on.hover(null));
    canvas.addEventListener("focus", () => this.focus(canvas.matches(":focus-visible")));
    canvas.addEventListener("blur", () => this.focus(false));
    canvas.addEventListener("keydown", (event) => this.press(event));
  }

  focus(focused) {
    this.focused = focused;
    this.redraw();
    if (!focused) this.on.hover(null);
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const step = 40 / this.scale;
    const way = { ArrowLeft: [-step, 0], ArrowRight: [step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] }[event.key];
    if (way) this.move(...way);
    else if (event.key === "+" || event.key === "=") this.zoom(1.4);
    else if (event.key === "-") this.zoom(1 / 1.4);
    else if (event.key === "0") this.reset();
    else if (event.key === "Escape") return this.on.hover(null);
    else if (event.key === "Enter") {
      const index = this.nearest(this.width / 2, this.height / 2, 60);
      if (index !== null) this.on.pick(index);
    } else return;
    event.preventDefault();
    this.focused = true;
    this.hover(this.width / 2, this.height / 2, 60);
  }
}

// Points by the cell they lie in; gives those in a rectangle, and some around it.
function index(x, y) {
  const cell = (value) => Math.min(CELLS - 1, Math.max(0, Math.floor(((value + 1) / 2) * CELLS)));
  const cells = Array.from({ length: CELLS * CELLS }, () => []);
  for (let at = 0; at < x.length; at++) cells[cell(y[at]) * CELLS + cell(x[at])].push(at);
  return function* (left, low, right, high) {
    for (let row = cell(low); row <= cell(high); row++) {
      for (let column = cell(left); column <= cell(right); column++) yield* cells[row * CELLS + column];
    }
  };
}
