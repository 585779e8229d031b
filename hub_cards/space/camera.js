/* The camera of the page. Gradio runs this once, as the body of a function of `element`, `props` and `watch`. MediaPipe
   Holistic finds the points of body and hands here, in the browser; camera.py, on the server, gets only those.
   props.value.keep: whether a clip can be kept for training. */
const FILES = { /* of @mediapipe/holistic: what each must be, byte for byte, and its size */
  "holistic.js": ["sha384-uPgv3xhUPhBy7PuniMrm0xGTB8Wme5XMJWg98sFaqvxMAbPeOSa2De2R46nuG8Sw", 78139],
  "holistic.binarypb": ["sha384-mXa+Vs7RDbE/VkkRacakOXbF+PAlia/XbDbtJzJIPHisSrcVAdl82ywED+jgI+no", 1741],
  "holistic_solution_packed_assets_loader.js": ["sha384-qkulQEFTSNlum+PUs8Qw5iXljcSVdWWzY7/b4AE30OH7Da0rbV4krUocMifZV/AS", 9786],
  "holistic_solution_packed_assets.data": ["sha384-RIa5//LF+dkceEKZyRBc6ErWHPRgTsAYwgMJdD26ZikH3I8nzMgNWdy4c094YQsi", 16877755],
  "holistic_solution_simd_wasm_bin.js": ["sha384-z3DkIZoHq8ZwK5RAG/MxAVaMXm2crOZHUH3HkmbsnwxHNzsh1TBYtrkWCJ9MhlpL", 276482],
  "holistic_solution_simd_wasm_bin.wasm": ["sha384-+kv5plCJ1uVJnGClSvw57Y0t18xo84FicQ/5KS6d2a31fZeRFZNN/V5BKyT7CBp7", 6511073],
  "pose_landmark_full.tflite": ["sha384-qKONzXayIt/vBWsQw7tauo0e9bWo3uSNROgwys2Qej0BX0aREbrEYYuS8GRDVOEh", 6440512],
};
const POSE = 33, HAND = 21, NUMBERS = 1 + 4 * POSE + 3 * 2 * HAND;
const PACE = 100; /* ms from one request to the next */
const KEPT = 600; /* frames that wait for a server that does not answer */
const STEP = 1 / 30; /* s from one picture of a video file to the next */
const SLOW = 8; /* pictures a second: with fewer, signing cannot be read */
const DARK = 40; /* of 255: mean brightness of a picture in which nothing is found */
const ARMS = [[11, 12], [11, 13], [13, 15], [12, 14], [14, 16], [11, 23], [12, 24], [23, 24]];
const FINGERS = [0, 5, 9, 13, 17].flatMap(first => [0, 1, 2, 3].map(k => first === 0 ? [k, k + 1] : [k === 0 ? 0 : first + k - 1, first + k]));

const find = name => element.querySelector("." + name);
const video = element.querySelector("video"), canvas = find("points"), pen = canvas.getContext("2d");
const small = Object.assign(document.createElement("canvas"), { width: 16, height: 12 });
let finder = null, found = null; /* Holistic, and what it found in the last picture */
let running = null; /* the signing that is being read: { stopped } */

function say(text, trouble = false) {
  if (find("state").textContent !== text) find("state").textContent = text;
  find("state").classList.toggle("error", trouble);
}

/* --- what finds the points --- */

async function load() {
  if (finder) return finder;
  const total = Object.values(FILES).reduce((sum, [, size]) => sum + size, 0), bar = find("loading"), places = {};
  let have = 0;
  say("Loading what finds the hands (30 MB, once) …");
  bar.hidden = false; bar.value = 0;
  try {
    for (const [name, [integrity, size]] of Object.entries(FILES)) {
      const answer = await fetch("holistic/" + name, { integrity });
      if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
      const type = name.endsWith(".js") ? "text/javascript" : name.endsWith(".wasm") ? "application/wasm" : "application/octet-stream";
      places[name] = URL.createObjectURL(new Blob([await answer.arrayBuffer()], { type }));
      bar.value = (have += size) / total;
    }
    await new Promise((done, failed) => document.head.append(Object.assign(document.createElement("script"),
      { src: places["holistic.js"], onload: done, onerror: () => failed(new Error("holistic.js does not run")) })));
    const holistic = new Holistic({ locateFile: name => places[name] || name });
    holistic.setOptions({ modelComplexity: 1, smoothLandmarks: true, refineFaceLandmarks: false });
    holistic.onResults(results => { found = results; });
    await holistic.initialize();
    return finder = holistic;
  } finally { bar.hidden = true; }
}

/* The numbers of a frame: see camera.py. */
function packed(seconds, results) {
  const numbers = new Float64Array(NUMBERS);
  let at = 0;
  const put = (points, count, names) => {
    for (let k = 0; k < count; k++) for (const name of names) numbers[at++] = points ? points[k][name] : 0;
  };
  numbers[at++] = seconds;
  put(results.poseLandmarks, POSE, ["x", "y", "z", "visibility"]);
  put(results.leftHandLandmarks, HAND, ["x", "y", "z"]);
  put(results.rightHandLandmarks, HAND, ["x", "y", "z"]);
  return numbers;
}

/* --- pictures, one after the other: where they come from, and when they were taken --- */

function presented(milliseconds) {
  return new Promise(done => {
    const late = setTimeout(done, milliseconds, null);
    video.requestVideoFrameCallback((now, picture) => { clearTimeout(late); done(picture); });
  });
}

async function cameraPictures() {
  if (!navigator.mediaDevices) throw new Error("The browser gives a camera only to pages that come over https, or from this machine.");
  const wanted = { width: { ideal: 1280 }, height: { ideal: 720 }, frameRate: { ideal: 30 } };
  const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false });
  video.srcObject = stream;
  await video.play();
  let began = null;
  return {
    mirrored: true,
    close() { stream.getTracks().forEach(track => track.stop()); video.srcObject = null; },
    async next() {
      if (!stream.active || stream.getVideoTracks()[0].readyState !== "live") throw new Error("The camera was taken away.");
      const picture = await presented(5000);
      if (!picture) throw new Error("The camera gives no pictures. Is another program using it?");
      began ??= picture.mediaTime;
      return picture.mediaTime - began;
    },
  };
}

async function filePictures(file) {
  const address = URL.createObjectURL(file);
  video.srcObject = null; video.src = address;
  await new Promise((done, failed) => {
    video.onloadeddata = done;
    video.onerror = () => failed(new Error(`${file.name} is no video that this browser plays. mp4 (H.264) and webm are.`));
  });
  let next = 0, last = -1;
  return {
    mirrored: false,
    close() { video.removeAttribute("src"); video.load(); URL.revokeObjectURL(address); },
    async next() {
      while (next <= video.duration) {
        const there = presented(1000);
        video.currentTime = next;
        next += STEP;
        const picture = await there, seconds = picture ? picture.mediaTime : video.currentTime;
        say(`Reading ${file.name}: ${Math.min(100, Math.round(100 * seconds / video.duration))} %`);
        if (seconds > last) return last = seconds; /* a video of fewer pictures shows one twice */
      }
      return null;
    },
  };
}

/* --- what is seen of the signer --- */

function draw(results, mirrored) {
  canvas.width = video.videoWidth; canvas.height = video.videoHeight;
  canvas.classList.toggle("mirrored", mirrored); video.classList.toggle("mirrored", mirrored);
  const style = getComputedStyle(element);
  const lines = (points, pairs, colour, width) => {
    if (!points) return;
    pen.strokeStyle = style.getPropertyValue("--" + colour); pen.lineWidth = width * canvas.width / 640; pen.lineCap = "round";
    pen.beginPath();
    for (const [a, b] of pairs) {
      pen.moveTo(points[a].x * canvas.width, points[a].y * canvas.height);
      pen.lineTo(points[b].x * canvas.width, points[b].y * canvas.height);
    }
    pen.stroke();
  };
  lines(results.poseLandmarks, ARMS, "body", 4);
  lines(results.leftHandLandmarks, FINGERS, "left", 3);
  lines(results.rightHandLandmarks, FINGERS, "right", 3);
}

function brightness() {
  const context = small.getContext("2d", { willReadFrequently: true });
  context.drawImage(video, 0, 0, small.width, small.height);
  const pixels = context.getImageData(0, 0, small.width, small.height).data;
  let sum = 0;
  for (let k = 0; k < pixels.length; k += 4) sum += pixels[k] + pixels[k + 1] + pixels[k + 2];
  return sum / (pixels.length / 4 * 3);
}

/* What keeps the signer from being read, in a word; null. */
function trouble(results, before) {
  const pose = results.poseLandmarks;
  if (!pose) return brightness() < DARK ? "It is too dark to see you." : "I see nobody. Step into the picture.";
  const middle = points => (points[11].x + points[12].x) / 2, across = Math.abs(pose[11].x - pose[12].x);
  if (before && Math.abs(middle(pose) - middle(before)) > 1.5 * across) return "Is there somebody else? One person at a time.";
  const raised = Math.min(pose[15].y, pose[16].y) < (pose[23].y + pose[24].y) / 2 && Math.max(pose[15].visibility, pose[16].visibility) > 0.5;
  if (raised && !results.leftHandLandmarks && !results.rightHandLandmarks) return "I see no hands. Step back, or turn on a light.";
  return null;
}

/* --- signing --- */

async function read(open) {
  const own = running = { stopped: false, frames: [], sending: null, ended: false };
  let pictures = null, before = null;
  const times = []; /* of the last pictures */
  own.session = Array.from(crypto.getRandomValues(new Uint8Array(16)), byte => byte.toString(16).padStart(2, "0")).join("");
  find("start").textContent = "Stop";
  try {
    pictures = await open();
    find("view").hidden = false;
    const holistic = await load();
    holistic.reset();
    if (pictures.mirrored) await countDown(own);
    while (!own.stopped) {
      const seconds = await pictures.next();
      if (seconds === null || own.stopped) break;
      await holistic.send({ image: video });
      draw(found, pictures.mirrored);
      own.size = [video.videoWidth, video.videoHeight];
      own.frames.push(packed(seconds, found));
      if (own.frames.length > KEPT) throw new Error("The server does not follow. Try again in a minute.");
      times.push(seconds);
      const rate = times.length > 10 ? 10 / (seconds - times.shift()) : SLOW;
      own.trouble = trouble(found, before) || (rate < SLOW ? `Only ${rate.toFixed(1)} pictures a second are read here: too few for signing. Close other programs.` : null);
      before = found.poseLandmarks || before;
      if (pictures.mirrored) say(own.trouble || (own.signing ? "Signing …" : "Ready: raise your hands and sign."));
      own.sending ??= send(own);
      if (own.failed) throw own.failed;
    }
    await own.sending;
    own.ended = true;
    if (own.size) await send(own);
    if (own.failed) throw own.failed;
    say(find("captions").children.length ? "" : "No signing was found: hands that rise above the belt, and rest again.");
  } catch (error) {
    const refused = { NotAllowedError: "The browser was not allowed to use the camera. Allow it beside the address of this page.",
      NotFoundError: "No camera was found. You can open a video instead.", NotReadableError: "Another program is using the camera." };
    say(refused[error.name] || error.message, true);
  } finally {
    if (pictures) pictures.close();
    find("view").hidden = true; find("partial").hidden = true; find("start").textContent = "Start the camera"; find("file").value = "";
    if (running === own) running = null;
  }
}

async function countDown(own) {
  for (let left = 3; left && !own.stopped; left--) {
    find("count").textContent = left;
    say(`Ready in ${left} …`);
    await new Promise(done => setTimeout(done, 700));
  }
  find("count").textContent = "";
}

async function post(address, content) {
  const headers = { "Content-Type": "application/octet-stream" };
  const answer = await fetch(address, { method: "POST", headers, body: content }).catch(() => null);
  if (!answer) throw new Error("The server does not answer. Is it still running?");
  const told = await answer.json().catch(() => ({ error: `The server answered with ${answer.status}.` }));
  if (told.error) throw new Error(told.error);
  return told;
}

/* What waits goes to the server, and what comes back is shown. */
async function send(own) {
  const frames = own.frames.splice(0), numbers = new Float64Array(frames.length * NUMBERS);
  frames.forEach((frame, k) => numbers.set(frame, k * NUMBERS));
  const query = new URLSearchParams({ width: own.size[0], height: own.size[1], ...(own.ended && { end: 1 }) });
  const paced = new Promise(done => setTimeout(done, PACE));
  try {
    const told = await post(`camera/${own.session}?${query}`, numbers);
    own.signing = told.signing;
    told.captions.forEach(show);
    if (!told.signing) find("partial").hidden = true;
  } catch (error) { own.failed = error; }
  await paced;
  own.sending = null;
}

function show(caption) {
  const partial = find("partial");
  partial.hidden = caption.final;
  if (!caption.final) {
    const settled = document.createElement("b"), rest = document.createElement("span");
    settled.textContent = caption.settled; rest.textContent = caption.text.slice(caption.settled.length);
    partial.replaceChildren(settled, rest);
    return;
  }
  const item = document.createElement("li"), text = document.createElement("p"), buttons = document.createElement("p");
  text.className = caption.text ? "sentence" : "remark";
  text.textContent = caption.text || `Not understood: ${caption.reason || "nothing"}.`;
  const file = new Blob([Uint8Array.from(atob(caption.clip), c => c.charCodeAt(0))]), address = URL.createObjectURL(file);
  const number = find("captions").children.length + 1, said = `${(caption.end - caption.start).toFixed(1)} s`;
  const link = Object.assign(document.createElement("a"), { href: address, download: `signed-${number}.npz`, textContent: "Save the clip" });
  const forget = Object.assign(document.createElement("button"), { type: "button", textContent: "Forget it" });
  forget.onclick = () => { URL.revokeObjectURL(address); item.remove(); find("start").focus(); };
  buttons.append(said, " ", link, " ", forget);
  item.append(text, buttons);
  if (props.value.keep) item.append(keeper(caption.text, file));
  find("captions").prepend(item);
}

/* What was signed, to be put right, and a button that keeps the clip with it. */
function keeper(text, file) {
  const form = document.createElement("form"), label = document.createElement("label"), said = document.createElement("span");
  const input = Object.assign(document.createElement("input"), { type: "text", value: text, maxLength: 300, required: true });
  const button = Object.assign(document.createElement("button"), { type: "submit", textContent: "Keep it for training" });
  label.append("Signed was ", input); said.setAttribute("role", "status");
  form.append(label, button, said);
  form.onsubmit = async event => {
    event.preventDefault(); button.disabled = true;
    const answer = await post("camera?" + new URLSearchParams({ text: input.value }), file).catch(error => ({ error: error.message }));
    said.textContent = answer.error ? answer.error : `Kept: ${answer.kept}`;
    button.disabled = !answer.error;
  };
  return form;
}

find("start").onclick = () => { if (running) running.stopped = true; else read(cameraPictures); };
find("file").onchange = event => {
  const file = event.target.files[0];
  if (file && !running) read(() => filePictures(file));
};
element.addEventListener("keydown", event => { if (event.key === "Escape" && running) running.stopped = true; });
