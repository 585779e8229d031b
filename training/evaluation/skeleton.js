/* The skeleton player of the report and of the demo page: a signer and both hands on canvases, a time line, a camera.
   It fills `element`. `load` takes what display.py's `motion_payload` makes; `onFrame(i)` is called after each drawing. */
"use strict";
const BODY = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19];
const NECK = 12, HEAD = 15, LEFT_WRIST = 20, RIGHT_WRIST = 21, LEGS = new Set([1, 2, 4, 5, 7, 8, 10, 11]);
const LEFT = Array.from({ length: 15 }, (_, k) => 22 + k), RIGHT = LEFT.map(j => j + 15);
const PARENTS = [...BODY, ...[LEFT, RIGHT].flatMap((hand, side) => hand.map((j, k) => (k % 3 ? j - 1 : LEFT_WRIST + side)))];
const JOINTS = PARENTS.length, MISSING = -32768, UNSEEN = 0.28;
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const MARKUP = `
  <div class="stage">
    <figure class="whole">
      <canvas class="body" tabindex="0" role="img" aria-label="Skeleton of the signer. Arrow keys turn it, plus and minus zoom."></canvas>
      <figcaption class="name" aria-live="polite"></figcaption>
      <p class="empty"></p>
      <div class="views" role="group" aria-label="View">
        <button type="button" class="front">Front</button>
        <button type="button" class="side">Side</button>
        <button type="button" class="top">Top</button>
        <button type="button" class="out" aria-label="Zoom out">−</button>
        <button type="button" class="in" aria-label="Zoom in">+</button>
      </div>
    </figure>
    <figure><canvas class="right" role="img" aria-label="Right hand, enlarged"></canvas><figcaption class="right-said">right hand</figcaption></figure>
    <figure><canvas class="left" role="img" aria-label="Left hand, enlarged"></canvas><figcaption class="left-said">left hand</figcaption></figure>
  </div>
  <div class="line">
    <button type="button" class="play" aria-label="Play" disabled>▶</button>
    <input type="range" class="frame" min="0" max="0" value="0" step="1" aria-label="Time" disabled>
    <select class="speed" aria-label="Speed">
      <option value="0.25">¼×</option><option value="0.5">½×</option><option value="1" selected>1×</option><option value="2">2×</option>
    </select>
  </div>
  <p class="time"></p>`;

/* The pen of a canvas that is empty and as sharp as the screen. */
function clear(canvas) {
  const width = canvas.clientWidth, height = canvas.clientHeight, ratio = window.devicePixelRatio || 1;
  if (canvas.width !== Math.round(width * ratio) || canvas.height !== Math.round(height * ratio)) {
    canvas.width = Math.round(width * ratio); canvas.height = Math.round(height * ratio);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(ratio, 0, 0, ratio, 0, 0); pen.clearRect(0, 0, width, height); pen.lineCap = pen.lineJoin = "round";
  return { pen, width, height };
}

function bytesOf(text) { return Uint8Array.from(atob(text), c => c.charCodeAt(0)); }

function skeletonPlayer(element, { empty = "", onFrame = () => {} } = {}) {
  element.innerHTML = MARKUP;
  const find = name => element.querySelector("." + name);
  let clip = null, motion = null, seen = null, at = 0, playing = false, last = 0, shown = -1, dirty = true;
  let view = { yaw: 0.25, pitch: 0.06, zoom: 1 }, colours = {};
  const fingers = new Map(); /* pointers that are down on the canvases: pinching takes two */
  find("empty").textContent = empty;

  function readColours() {
    const style = getComputedStyle(element);
    for (const name of ["stage", "body", "left", "right"]) colours[name] = style.getPropertyValue("--" + name).trim();
    dirty = true;
  }

  function load(value) {
    const numbers = new DataView(bytesOf(value.motion).buffer);
    clip = value;
    motion = Int16Array.from({ length: numbers.byteLength / 2 }, (_, i) => numbers.getInt16(2 * i, true));
    seen = bytesOf(value.seen);
    at = 0; shown = -1;
    find("name").textContent = value.name;
    find("empty").hidden = value.frames > 0;
    find("time").textContent = "";
    find("right-said").textContent = "right hand"; find("left-said").textContent = "left hand";
    for (const name of ["play", "frame"]) find(name).disabled = value.frames < 2;
    find("frame").max = Math.max(value.frames - 1, 0);
    face(0.25, 0.06); view.zoom = 1;
    setPlaying(!calm.matches);
  }

  /* ---- time ---- */

  function setPlaying(on) {
    playing = on && clip && clip.frames > 1; last = 0; dirty = true;
    find("play").textContent = playing ? "❚❚" : "▶"; find("play").setAttribute("aria-label", playing ? "Pause" : "Play");
  }

  function go(frame) { setPlaying(false); at = Math.max(0, Math.min(clip.frames - 1, frame)); }

  function tell(i) {
    const seconds = (i / clip.fps).toFixed(1);
    find("frame").value = i; find("frame").setAttribute("aria-valuetext", `${seconds} seconds`);
    find("time").textContent = `${seconds} of ${((clip.frames - 1) / clip.fps).toFixed(1)} s`;
    for (const [name, hand] of [["right", RIGHT], ["left", LEFT]])
      find(name + "-said").textContent = `${name} hand${hand.some(j => isSeen(i, j)) ? "" : ", not seen"}`;
  }

  /* ---- space ---- */

  function isSeen(i, j) { const k = i * JOINTS + j; return (seen[k >> 3] & (128 >> (k & 7))) !== 0; }

  /* Metres of joint j in frame i; null if the file has no number for it. */
  function joint(i, j) {
    const k = (i * JOINTS + j) * 3;
    return motion[k] === MISSING ? null : [motion[k] / 1000, motion[k + 1] / 1000, motion[k + 2] / 1000];
  }

  /* Turn the camera by `yaw` from where the signer faces it. */
  function face(yaw, pitch) { view.yaw = yaw - (clip ? clip.facing : 0); view.pitch = pitch; dirty = true; }
  function turn(yaw, pitch) { view.yaw += yaw; view.pitch = Math.max(-1.5, Math.min(1.5, view.pitch + pitch)); dirty = true; }
  function zoom(factor) { view.zoom = Math.max(0.4, Math.min(6, view.zoom * factor)); dirty = true; }

  /* A camera on one canvas: `centre` in metres is in the middle, `half` metres fit on either side of it. */
  function camera(canvas, centre, half, magnify) {
    const { pen, width, height } = clear(canvas);
    const scale = Math.min(width / 2 / half[0], height / 2 / half[1]) * magnify, far = 4 * Math.max(...half);
    const cy = Math.cos(view.yaw), sy = Math.sin(view.yaw), cp = Math.cos(view.pitch), sp = Math.sin(view.pitch);
    const place = p => {
      if (!p) return null;
      const [a, b, c] = [p[0] - centre[0], p[1] - centre[1], p[2] - centre[2]];
      const x = cy * a + sy * c, z = cy * c - sy * a, y = cp * b - sp * z, depth = sp * b + cp * z;
      const size = scale * far / Math.max(far - depth, 0.1);
      return { x: width / 2 + x * size, y: height / 2 - y * size, depth, size };
    };
    return { pen, place };
  }

  /* Bones from back to front; a rim in the colour of the stage keeps fingers that cross apart. */
  function drawBones(pen, bones) {
    const line = (bone, colour, width) => {
      pen.strokeStyle = colour; pen.lineWidth = width;
      pen.beginPath(); pen.moveTo(bone.a.x, bone.a.y); pen.lineTo(bone.b.x, bone.b.y); pen.stroke();
    };
    for (const bone of bones.sort((a, b) => a.a.depth + a.b.depth - b.a.depth - b.b.depth)) {
      const width = Math.max(bone.width * (bone.a.size + bone.b.size) / 2, 1.3);
      if (bone.alpha === 1) line(bone, colours.stage, width + Math.min(3, 0.8 * width));
      pen.globalAlpha = bone.alpha; line(bone, bone.colour, width); pen.globalAlpha = 1;
    }
  }

  function tint(j) { return j === LEFT_WRIST || LEFT.includes(j) ? colours.left : j === RIGHT_WRIST || RIGHT.includes(j) ? colours.right : colours.body; }
  function bone(i, j, points, look) {
    const a = points[PARENTS[j]], b = points[j];
    return a && b ? [{ a, b, ...look, alpha: isSeen(i, j) && isSeen(i, PARENTS[j]) ? look.alpha : Math.min(look.alpha, UNSEEN) }] : [];
  }

  function drawWhole(i) {
    const { pen, place } = camera(find("body"), clip.centre, clip.half, view.zoom);
    const points = PARENTS.map((_, j) => place(joint(i, j)));
    for (const wrist of [LEFT_WRIST, RIGHT_WRIST]) for (let k = 0, n = Math.round(clip.fps * 0.6); k < n && i - k > 0; k++) {
      const a = place(joint(i - k, wrist)), b = place(joint(i - k - 1, wrist));
      if (!a || !b) continue;
      pen.strokeStyle = tint(wrist); pen.globalAlpha = 0.45 * (1 - k / n); pen.lineWidth = 2;
      pen.beginPath(); pen.moveTo(a.x, a.y); pen.lineTo(b.x, b.y); pen.stroke();
    }
    pen.globalAlpha = 1;
    const bones = PARENTS.flatMap((p, j) => p < 0 ? [] : bone(i, j, points, j >= 22
      ? { colour: tint(j), width: 0.011, alpha: 1 } : { colour: colours.body, width: j > 15 ? 0.036 : 0.042, alpha: LEGS.has(j) ? 0.35 : 1 }));
    const neck = joint(i, NECK), head = joint(i, HEAD);
    if (!neck || !head) return drawBones(pen, bones);
    /* skeletons differ in where in the head its joint lies */
    const up = head.map((x, axis) => x - neck[axis]), length = Math.hypot(...up) || 1;
    const crown = place(neck.map((x, axis) => x + Math.max(length, 0.17) * up[axis] / length));
    drawBones(pen, bones.filter(bone => bone.a.depth + bone.b.depth < 2 * crown.depth));
    pen.fillStyle = colours.body; pen.strokeStyle = colours.stage; pen.lineWidth = 2; pen.globalAlpha = isSeen(i, HEAD) ? 1 : UNSEEN;
    pen.beginPath(); pen.ellipse(crown.x, crown.y, 0.078 * crown.size, 0.105 * crown.size, 0, 0, 7); pen.fill(); pen.stroke();
    pen.globalAlpha = 1;
    drawBones(pen, bones.filter(bone => bone.a.depth + bone.b.depth >= 2 * crown.depth));
  }

  function drawHand(canvas, i, wrist, hand) {
    const own = joint(i, wrist), knuckles = [0, 3, 6, 9].map(k => joint(i, hand[k]));
    if (!own || knuckles.includes(null)) return clear(canvas);
    const centre = own.map((x, axis) => x + 1.15 * (knuckles.reduce((sum, p) => sum + p[axis], 0) / 4 - x));
    const { pen, place } = camera(canvas, centre, [0.13, 0.13], 1), colour = tint(wrist), points = [];
    for (const j of [PARENTS[wrist], wrist, ...hand]) points[j] = place(joint(i, j));
    pen.fillStyle = colour; pen.globalAlpha = hand.some(j => isSeen(i, j)) ? 0.18 : 0.06; pen.beginPath();
    for (const j of [wrist, hand[12], hand[0], hand[3], hand[9], hand[6]]) if (points[j]) pen.lineTo(points[j].x, points[j].y);
    pen.fill(); pen.globalAlpha = 1;
    drawBones(pen, [
      ...bone(i, wrist, points, { colour: colours.body, width: 0.03, alpha: 0.5 }),
      ...hand.flatMap((j, k) => bone(i, j, points, { colour, width: k % 3 ? 0.013 : 0.009, alpha: k % 3 ? 1 : 0.7 })),
    ]);
  }

  function draw(now) {
    if (!element.isConnected) return; /* it was taken off the page */
    requestAnimationFrame(draw);
    if (!clip) return;
    if (playing) {
      if (last) at = (at + (now - last) / 1000 * clip.fps * +find("speed").value) % clip.frames;
      last = now;
    }
    const i = Math.max(Math.min(Math.floor(at), clip.frames - 1), 0);
    if (!dirty && i === shown) return;
    dirty = false;
    if (!clip.frames) { for (const name of ["body", "right", "left"]) clear(find(name)); return; }
    if (i !== shown) tell(i);
    shown = i;
    drawWhole(i); drawHand(find("right"), i, RIGHT_WRIST, RIGHT); drawHand(find("left"), i, LEFT_WRIST, LEFT);
    onFrame(i);
  }

  /* ---- hands on it ---- */

  for (const canvas of [find("body"), find("right"), find("left")]) {
    canvas.addEventListener("pointerdown", e => { canvas.setPointerCapture(e.pointerId); fingers.set(e.pointerId, e); });
    canvas.addEventListener("pointermove", e => {
      const before = fingers.get(e.pointerId);
      if (!before) return;
      if (fingers.size === 2) {
        const other = [...fingers.values()].find(f => f.pointerId !== e.pointerId), apart = f => Math.hypot(f.clientX - other.clientX, f.clientY - other.clientY);
        zoom(apart(e) / Math.max(apart(before), 1));
      } else turn((e.clientX - before.clientX) * 0.01, (e.clientY - before.clientY) * 0.01);
      fingers.set(e.pointerId, e);
    });
    for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, e => fingers.delete(e.pointerId));
  }
  find("body").addEventListener("wheel", e => {
    if (document.activeElement !== find("body") && !e.ctrlKey) return; /* else nobody could scroll past the player */
    e.preventDefault(); zoom(Math.exp(-e.deltaY * 0.0015));
  }, { passive: false });
  find("body").addEventListener("keydown", e => {
    const act = {
      ArrowLeft: () => turn(-0.1, 0), ArrowRight: () => turn(0.1, 0), ArrowUp: () => turn(0, -0.1), ArrowDown: () => turn(0, 0.1),
      "+": () => zoom(1.2), "=": () => zoom(1.2), "-": () => zoom(1 / 1.2), " ": () => setPlaying(!playing),
    }[e.key];
    if (act && !e.ctrlKey && !e.metaKey && !e.altKey) { act(); e.preventDefault(); }
  });
  find("play").addEventListener("click", () => setPlaying(!playing));
  find("frame").addEventListener("input", e => go(+e.target.value));
  find("front").addEventListener("click", () => { face(0, 0); view.zoom = 1; });
  find("side").addEventListener("click", () => face(-Math.PI / 2, 0));
  find("top").addEventListener("click", () => face(0, 1.35));
  find("out").addEventListener("click", () => zoom(1 / 1.25));
  find("in").addEventListener("click", () => zoom(1.25));
  new ResizeObserver(() => { dirty = true; }).observe(element);
  new MutationObserver(readColours).observe(document.body, { attributes: true, attributeFilter: ["class"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);
  readColours(); requestAnimationFrame(draw);
  return { load, go, toggle: () => setPlaying(!playing), redraw: () => { shown = -1; dirty = true; } };
}
