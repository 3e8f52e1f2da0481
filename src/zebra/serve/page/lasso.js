// Geometry of a lasso on the map.

// Whether a point is inside a polygon, by the even-odd rule.
export function isInside(corners, x, y) {
  let inside = false;
  for (let index = 0, last = corners.length - 1; index < corners.length; last = index++) {
    const [ax, ay] = corners[index];
    const [bx, by] = corners[last];
    if (ay > y !== by > y && x < ((bx - ax) * (y - ay)) / (by - ay) + ax) inside = !inside;
  }
  return inside;
}

export function drawLasso(ctx, corners, color) {
  ctx.strokeStyle = ctx.fillStyle = color;
  ctx.beginPath();
  for (const [x, y] of corners) ctx.lineTo(x, y);
  ctx.closePath();
  ctx.globalAlpha = 0.08;
  ctx.fill();
  ctx.globalAlpha = 1;
  ctx.setLineDash([5, 4]);
  ctx.stroke();
  ctx.setLineDash([]);
}
