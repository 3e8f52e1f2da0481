// A scatter plot on a canvas with pan, zoom, pinch, hover, keys and a lasso. Chart libraries write inline styles or compile code,
// which the page's content security policy forbids.

import { loadImage } from "./api.js";
import { drawLasso, isInside } from "./lasso.js";

const MARGIN = 24;
const HOVER_RADIUS = 14; // pixels
const MAX_ZOOM = 200;
const MIN_ZOOM = 0.7;
const MAX_THUMBNAILS = 90; // with at most so many points in view, points are drawn as images
const THUMBNAIL_SIDE = 44; // pixels
const GRID_SIZE = 64; // cells of the spatial index, along each side
const MAX_STRETCH = 1.7; // of one axis against the other, to fill the frame; distances on the map are not exact anyway
const DENSITY_CELLS = 8; // along each side of the frame, to find where most points are

export class ScatterPlot {
  // points: {x, y} in [-1, 1], y upwards. handlers: hover(index | null, x, y), select(index), lasso(indices),
  // thumbnailUrl(index).
  constructor(canvas, points, handlers) {
    this.canvas = canvas;
    this.x = points.x;
    this.y = points.y;
    this.handlers = handlers;
    this.getColor = () => "#888";
    this.isHighlighted = () => true;
    this.view = { x: 0, y: 0, zoom: 1 };
    this.thumbnails = new Map();
    this.pointers = new Map();
    this.lasso = null; // its corners on the screen while it is drawn
    this.isLassoOn = false;
    this.queryGrid = buildGrid(this.x, this.y);
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.addListeners();
  }

  setColors(getColor, isHighlighted) {
    this.getColor = getColor;
    this.isHighlighted = isHighlighted;
    this.scheduleDraw();
  }

  resize() {
    const { width, height } = this.canvas.getBoundingClientRect();
    if (!width || !height) return;
    const pixelRatio = window.devicePixelRatio || 1;
    Object.assign(this, { width, height, pixelRatio });
    this.canvas.width = Math.round(pixelRatio * width);
    this.canvas.height = Math.round(pixelRatio * height);
    this.scheduleDraw();
  }

  // Pixels per unit of both axes: all points fit into the frame, and one axis may be stretched.
  get scale() {
    const largest = (values) => values.reduce((high, value) => Math.max(high, Math.abs(value)), 1e-3);
    this.extent ??= [largest(this.x), largest(this.y)];
    const fit = [(this.width / 2 - MARGIN) / this.extent[0], (this.height / 2 - MARGIN) / this.extent[1]];
    const limit = MAX_STRETCH * Math.min(...fit);
    return fit.map((value) => this.view.zoom * Math.min(value, limit));
  }

  toScreen(index, [scaleX, scaleY] = this.scale) {
    return [this.width / 2 + (this.x[index] - this.view.x) * scaleX, this.height / 2 - (this.y[index] - this.view.y) * scaleY];
  }

  toData(x, y) {
    const [scaleX, scaleY] = this.scale;
    return [this.view.x + (x - this.width / 2) / scaleX, this.view.y - (y - this.height / 2) / scaleY];
  }

  // Zoom in to where most highlighted points are, rather than to an empty center.
  zoomIn(factor) {
    const counts = new Map();
    const [width, height] = [this.width / DENSITY_CELLS, this.height / DENSITY_CELLS];
    for (const [index, x, y] of this.visiblePoints(0)) {
      if (!this.isHighlighted(index)) continue;
      const key = Math.floor(y / height) * DENSITY_CELLS + Math.floor(x / width);
      const cell = counts.get(key) ?? { count: 0, x: 0, y: 0 };
      counts.set(key, { count: cell.count + 1, x: cell.x + x, y: cell.y + y });
    }
    const densest = [...counts.values()].reduce((best, cell) => (cell.count > best.count ? cell : best), { count: 0 });
    if (densest.count) this.zoom(factor, densest.x / densest.count, densest.y / densest.count);
    else this.zoom(factor);
  }

  // [index, x, y] of the points in the frame and up to some pixels around it.
  visiblePoints(margin) {
    const visible = [];
    const { scale } = this;
    for (let index = 0; index < this.x.length; index++) {
      const [x, y] = this.toScreen(index, scale);
      if (x >= -margin && x <= this.width + margin && y >= -margin && y <= this.height + margin) visible.push([index, x, y]);
    }
    return visible;
  }

  // Zoom by a factor around a screen position.
  zoom(factor, x = this.width / 2, y = this.height / 2) {
    const [px, py] = this.toData(x, y);
    this.view.zoom = Math.min(MAX_ZOOM, Math.max(MIN_ZOOM, this.view.zoom * factor));
    const [qx, qy] = this.toData(x, y);
    this.pan(px - qx, py - qy);
  }

  pan(dx, dy) {
    const clamp = (value) => Math.min(1, Math.max(-1, value));
    this.view.x = clamp(this.view.x + dx);
    this.view.y = clamp(this.view.y + dy);
    this.scheduleDraw();
  }

  reset() {
    this.view = { x: 0, y: 0, zoom: 1 };
    this.scheduleDraw();
  }

  scheduleDraw() {
    this.frameRequest ??= requestAnimationFrame(() => {
      this.frameRequest = null;
      if (this.width) this.draw();
    });
  }

  draw() {
    const ctx = this.canvas.getContext("2d");
    ctx.setTransform(this.pixelRatio, 0, 0, this.pixelRatio, 0, 0);
    ctx.clearRect(0, 0, this.width, this.height);
    const visible = this.visiblePoints(40);
    const highlighted = visible.filter(([index]) => this.isHighlighted(index));
    const radius = Math.min(7, 2.4 * this.view.zoom ** 0.35);
    ctx.globalAlpha = 0.14;
    this.drawDots(ctx, visible.filter(([index]) => !this.isHighlighted(index)), radius);
    ctx.globalAlpha = 0.85;
    this.drawDots(ctx, highlighted, radius);
    ctx.globalAlpha = 1;
    if (highlighted.length <= MAX_THUMBNAILS && this.view.zoom > 2) {
      for (const [index, x, y] of highlighted) this.drawThumbnail(ctx, index, x, y);
    }
    if (this.hasCrosshair) this.drawCrosshair(ctx);
    if (this.lasso) drawLasso(ctx, this.lasso, getComputedStyle(this.canvas).color);
  }

  drawDots(ctx, points, radius) {
    const paths = new Map();
    for (const [index, x, y] of points) {
      const color = this.getColor(index);
      if (!paths.has(color)) paths.set(color, new Path2D());
      const path = paths.get(color);
      path.moveTo(x + radius, y);
      path.arc(x, y, radius, 0, 2 * Math.PI);
    }
    for (const [color, path] of paths) {
      ctx.fillStyle = color;
      ctx.fill(path);
    }
  }

  drawThumbnail(ctx, index, x, y) {
    let image = this.thumbnails.get(index);
    if (!image) {
      image = new Image();
      this.thumbnails.set(index, image);
      image.addEventListener("load", () => this.scheduleDraw(), { once: true });
      loadImage(image, this.handlers.thumbnailUrl(index));
    }
    if (!image.complete || !image.naturalWidth) return;
    const side = THUMBNAIL_SIDE;
    ctx.fillStyle = this.getColor(index);
    ctx.fillRect(x - side / 2 - 2, y - side / 2 - 2, side + 4, side + 4);
    ctx.drawImage(image, x - side / 2, y - side / 2, side, side);
  }

  drawCrosshair(ctx) {
    const [x, y] = [this.width / 2, this.height / 2];
    ctx.strokeStyle = getComputedStyle(this.canvas).color;
    ctx.beginPath();
    for (const [dx, dy] of [[1, 0], [0, 1]]) {
      ctx.moveTo(x - 10 * dx, y - 10 * dy);
      ctx.lineTo(x + 10 * dx, y + 10 * dy);
    }
    ctx.stroke();
  }

  // Return the highlighted point nearest to a screen position, within a radius in pixels, or null.
  nearestPoint(x, y, radius = HOVER_RADIUS) {
    const [left, bottom] = this.toData(x - radius, y + radius);
    const [right, top] = this.toData(x + radius, y - radius);
    const { scale } = this;
    let best = null, bestDistance = radius * radius;
    for (const index of this.queryGrid(left, bottom, right, top)) {
      const [px, py] = this.toScreen(index, scale);
      const distance = (px - x) ** 2 + (py - y) ** 2;
      if (distance <= bestDistance && this.isHighlighted(index)) [best, bestDistance] = [index, distance];
    }
    return best;
  }

  updateHover(x, y, radius) {
    const index = this.nearestPoint(x, y, radius);
    this.canvas.classList.toggle("is-hovering", index !== null);
    this.handlers.hover(index, ...(index === null ? [0, 0] : this.toScreen(index)));
  }

  addListeners() {
    const canvas = this.canvas;
    const position = (event) => [event.offsetX, event.offsetY];
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(Math.exp(-event.deltaY * (event.deltaMode ? 0.05 : 0.0018)), ...position(event));
      this.updateHover(...position(event));
    }, { passive: false });
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.pointers.set(event.pointerId, position(event));
      if (this.pointers.size === 1) this.dragDistance = 0;
      this.lasso = this.isLassoOn && this.pointers.size === 1 ? [position(event)] : null;
    });
    canvas.addEventListener("pointermove", (event) => {
      const previous = this.pointers.get(event.pointerId);
      if (!previous) return this.updateHover(...position(event));
      const [x, y] = position(event);
      if (this.lasso) {
        this.lasso.push([x, y]);
        return this.scheduleDraw();
      }
      this.dragDistance += Math.hypot(x - previous[0], y - previous[1]);
      const otherPointer = [...this.pointers].find(([id]) => id !== event.pointerId)?.[1];
      if (otherPointer) {
        const distanceToOther = ([a, b]) => Math.max(1, Math.hypot(a - otherPointer[0], b - otherPointer[1]));
        this.zoom(distanceToOther([x, y]) / distanceToOther(previous), (x + otherPointer[0]) / 2, (y + otherPointer[1]) / 2);
      } else this.pan((previous[0] - x) / this.scale[0], (y - previous[1]) / this.scale[1]);
      this.pointers.set(event.pointerId, [x, y]);
      if (this.dragDistance > 4) this.handlers.hover(null);
    });
    canvas.addEventListener("pointerup", (event) => {
      const isSinglePointer = this.pointers.size === 1;
      this.pointers.delete(event.pointerId);
      if (this.lasso) return this.finishLasso();
      if (!isSinglePointer || this.dragDistance > 4) return;
      const index = this.nearestPoint(...position(event), event.pointerType === "touch" ? 2 * HOVER_RADIUS : HOVER_RADIUS);
      if (index !== null) this.handlers.select(index);
    });
    canvas.addEventListener("pointercancel", (event) => this.pointers.delete(event.pointerId));
    canvas.addEventListener("pointerleave", () => this.handlers.hover(null));
    canvas.addEventListener("focus", () => this.setCrosshair(canvas.matches(":focus-visible")));
    canvas.addEventListener("blur", () => this.setCrosshair(false));
    canvas.addEventListener("keydown", (event) => this.handleKey(event));
  }

  // Report the highlighted points within the lasso.
  finishLasso() {
    const corners = this.lasso;
    this.lasso = null;
    this.scheduleDraw();
    const inside = this.visiblePoints(0).filter(([index, x, y]) => this.isHighlighted(index) && isInside(corners, x, y));
    this.handlers.lasso(inside.map(([index]) => index));
  }

  setCrosshair(isVisible) {
    this.hasCrosshair = isVisible;
    this.scheduleDraw();
    if (!isVisible) this.handlers.hover(null);
  }

  handleKey(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const [stepX, stepY] = this.scale.map((scale) => 40 / scale);
    const offset = { ArrowLeft: [-stepX, 0], ArrowRight: [stepX, 0], ArrowUp: [0, stepY], ArrowDown: [0, -stepY] }[event.key];
    if (offset) this.pan(...offset);
    else if (event.key === "+" || event.key === "=") this.zoomIn(1.4);
    else if (event.key === "-") this.zoom(1 / 1.4);
    else if (event.key === "0") this.reset();
    else if (event.key === "Escape") return this.handlers.hover(null);
    else if (event.key === "Enter") {
      const index = this.nearestPoint(this.width / 2, this.height / 2, 60);
      if (index !== null) this.handlers.select(index);
    } else return;
    event.preventDefault();
    this.hasCrosshair = true;
    this.updateHover(this.width / 2, this.height / 2, 60);
  }
}

// Build a spatial index; the returned function yields the points in the grid cells that a rectangle touches.
function buildGrid(x, y) {
  const cell = (value) => Math.min(GRID_SIZE - 1, Math.max(0, Math.floor(((value + 1) / 2) * GRID_SIZE)));
  const cells = Array.from({ length: GRID_SIZE * GRID_SIZE }, () => []);
  for (let index = 0; index < x.length; index++) cells[cell(y[index]) * GRID_SIZE + cell(x[index])].push(index);
  return function* (left, bottom, right, top) {
    for (let row = cell(bottom); row <= cell(top); row++) {
      for (let column = cell(left); column <= cell(right); column++) yield* cells[row * GRID_SIZE + column];
    }
  };
}
