/* The demo page around the skeleton player. Gradio runs this after skeleton.js, once, as the body of a function of
   `element`, `props` and `watch`. props.value is what app.py's `motion_payload` and `tokens_payload` make: a clip, and
   later its motion tokens. */
const find = name => element.querySelector("." + name);
const player = skeletonPlayer(find("skeleton"), { empty: "Choose an example or upload a clip.", onFrame: i => tracks.forEach(track => drawTrack(track, i)) });
let clip = null, tracks = [];

function load() {
  const value = props.value;
  if (value && value.motion !== undefined) {
    clip = value; tracks = [];
    find("tracks").replaceChildren(); find("numbers").hidden = true;
    player.load(clip);
  }
  if (value && value.tracks && clip && value.id === clip.id) loadTracks(value);
}

/* Motion tokens: for each checkpoint a strip with a row for each of its codebooks. */
function loadTracks(value) {
  find("tracks").replaceChildren();
  tracks = value.tracks.filter(track => track.codes.length).map(track => {
    const line = document.createElement("div"), labels = document.createElement("div"), canvas = document.createElement("canvas");
    line.className = "line"; labels.className = "labels"; canvas.className = "strip";
    labels.replaceChildren(...track.rows.map(row => { const label = document.createElement("span"); label.textContent = row; return label; }));
    canvas.style.height = `${track.rows.length * 14}px`;
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${track.codes.length} motion tokens ${track.name ? `of ${track.name} ` : ""}under the time line; their numbers are in the list below`);
    const seek = e => { const box = canvas.getBoundingClientRect(); player.go((e.clientX - box.left) / box.width * (clip.frames - 1)); };
    canvas.addEventListener("pointerdown", e => { canvas.setPointerCapture(e.pointerId); seek(e); });
    canvas.addEventListener("pointermove", e => { if (canvas.hasPointerCapture(e.pointerId)) seek(e); });
    line.append(labels, canvas);
    const said = document.createElement("p");
    said.className = "said";
    find("tracks").append(said, line);
    return { ...track, canvas, said };
  });
  find("numbers").hidden = !tracks.length;
  find("numbers").querySelector("pre").textContent = tracks.map(track =>
    (tracks.length > 1 ? track.name + "\n" : "") + track.rows.map((row, r) => `${row}: ${track.codes.map(code => code[r]).join(" ")}`).join("\n")).join("\n\n");
  player.redraw();
}

/* Which token of a track is read at frame i. */
function tokenAt(track, i) { return Math.min(Math.floor(i / clip.fps / track.seconds), track.codes.length - 1); }

/* Equal tokens have equal colours; neighbouring numbers have very different ones. */
function drawTrack(track, i) {
  const { pen, width, height } = clear(track.canvas), now = tokenAt(track, i);
  const numbers = track.rows.map((row, r) => (track.rows.length > 1 ? row + " " : "") + track.codes[now][r]).join(", ").replaceAll(", +", " +");
  track.said.textContent = `${tracks.length > 1 ? track.name + ", m" : "M"}otion token ${now + 1} of ${track.codes.length}: ${numbers}`;
  const whole = (clip.frames - 1) / clip.fps, rows = track.rows.length, edge = k => Math.min(k * track.seconds / whole, 1) * width;
  track.codes.forEach((code, k) => code.forEach((number, r) => {
    const start = edge(k), gap = edge(1) > 6 ? 1 : 0;
    pen.fillStyle = `hsl(${number * 137.5 % 360} ${document.body.classList.contains("dark") ? "45% 52%" : "55% 62%"})`;
    pen.globalAlpha = k === now ? 1 : 0.65;
    pen.fillRect(start, r * height / rows + 1, Math.max(edge(k + 1) - start - gap, 1), height / rows - 2);
  }));
  pen.globalAlpha = 1; pen.fillStyle = getComputedStyle(track.canvas).color;
  pen.fillRect(Math.min(Math.max(i / (clip.frames - 1) * width - 1, 0), width - 2), 0, 2, height);
}

load(); watch("value", load);
