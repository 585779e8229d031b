"""The demo page: a clip of signing, as a moving skeleton and in words. A Hugging Face Space, and `lslm demo`.

Nothing of ours is imported here: the checkpoint named by LSLM_MODEL (several, separated by commas, can be compared)
brings its code along, and the package lslm, if it is there, the readers for the files of other programs. The files
beside this one are the rest; some are links to what the report of `lslm evaluate` shows as well.
"""

import asyncio
import difflib
import html
import json
import math
import os
import re
import shutil
import signal
import tempfile
import threading
import time
import zipfile
from concurrent.futures import Future
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")  # read when gradio is imported

import gradio as gr
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect

try:
    from . import camera
    from .confined import Confined
    from .display import LEGEND, UNSURE, motion_payload, percent, sureness_html, word_html
    from .service import MOST, Batches, Refused, Service, in_plain_words
except ImportError:  # in a Space, where this file is a program and no part of a package
    import camera
    from confined import Confined
    from display import LEGEND, UNSURE, motion_payload, percent, sureness_html, word_html
    from service import MOST, Batches, Refused, Service, in_plain_words

HERE = Path(__file__).parent
MAX_BYTES = 10 * 2**20  # of an upload
MAX_UNPACKED = 100 * 2**20
MAX_SECONDS = 60
PICKLES = (".pkl", ".pickle", ".pt", ".pth")
MAX_PROMPT = 300  # characters
AT_ONCE = 8  # events of the page that are worked on, more than one visitor may have
READING = 10.0  # seconds for one file
WAITING = {"session": 3, "address": 6}  # events that one visitor may have in the queue
UPLOADING = 60.0  # seconds for the body of a request
SWEEP, AGE = 600, 2700  # seconds between two looks at what visitors left, and how old it gets
FOLDERS = "lslm-demo-"
IN_A_SPACE = "SPACE_ID" in os.environ
MOTION = "<motion>"
BODY_PARTS = ["body", "left hand", "right hand"]
# what the codebooks of a motion token say; with two quantizers a part has a second one for what the first leaves over
CODEBOOKS = {1: ["token"], 3: BODY_PARTS, 6: [row for part in BODY_PARTS for row in (part, "+")]}

# where the result is out of sight, on a phone
SCROLL = """() => {
  const result = document.querySelector("#result"), top = result.getBoundingClientRect().top;
  if (top < 0 || top > innerHeight / 2) result.scrollIntoView();
}"""
READERS = Confined(AT_ONCE, READING, preloaded=["__main__", "transformers", "lslm.processing"])
CAPTIONS = {"confidence": "How likely it is to be right", "probability": "Probability, given the words before"}
NOTHING_CHOSEN = "Choose an example or upload a clip."


# --- clips ------------------------------------------------------------------------------------------------------------


def check_file(path: str) -> None:
    """Refuse a folder and a pickle; and a file by its size or, if it is an archive, by what its directory promises,
    unread.

    Raises:
        ValueError: it is a folder, a pickle or larger than the page allows. OSError: it cannot be read.
    """
    if os.path.islink(path) or os.path.exists(path) and not os.path.isfile(path):
        raise ValueError("This is not a file. Upload one motion file.")
    size = os.path.getsize(path)
    if size > MAX_BYTES:
        raise ValueError(f"The file has {size >> 20} MB, the limit is {MAX_BYTES >> 20} MB. Cut it to a sentence.")
    with open(path, "rb") as file:
        start = file.read(64)
    if start.startswith((b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda")):
        raise ValueError("This page takes no compressed files but .npz. Unpack the file first.")
    # an .npy of objects ('O') is pickled, too
    pickled = start[:1] == b"\x80" or path.lower().endswith(PICKLES) or (start[:6] == b"\x93NUMPY" and b"O'" in start)
    unpacked = 0
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(info.file_size for info in archive.infolist())
            pickled |= any(name.endswith("data.pkl") for name in archive.namelist())  # of torch.save
    except Exception:  # no archive, or a damaged one: whoever reads the file says so
        pass
    if pickled:
        raise ValueError("This page takes no pickles (.pkl, .pt, .pth): they can hold code. Save the arrays as .npz.")
    if unpacked > MAX_UNPACKED:
        limit = MAX_UNPACKED >> 20
        raise ValueError(f"The file unpacks to {unpacked >> 20} MB, the limit is {limit} MB. Cut it to a sentence.")


def check_prompt(prompt: str) -> str:
    """The instruction with single blanks. Raises ValueError if the model could not be asked so."""
    prompt = " ".join((prompt or "").encode("utf-8", "replace").decode().split())  # "?" for halves of characters
    if len(prompt) > MAX_PROMPT:
        raise ValueError(f"The instruction has {len(prompt)} characters, the limit is {MAX_PROMPT}.")
    if prompt.count(MOTION) != 1:
        raise ValueError(
            f"The instruction must contain {MOTION} once: it stands for the clip. Example: What is signed in {MOTION}?"
        )
    return prompt


class Translator:
    """Checkpoints by name.

    Args:
        pipes: name -> pipeline("sign-translation").
    """

    def __init__(self, pipes: dict):
        self.pipes = pipes
        self.batches = Batches()
        self.translate = lru_cache(maxsize=64)(self._translate)  # every visitor begins with the same example

    def in_turn(self) -> dict:
        """The checkpoints for who has only motion, from several threads: name -> a function like its pipeline, which
        says nothing where it is not sure."""

        def asking(pipe):
            sure = {"min_confidence": UNSURE} if getattr(pipe.model.config, "calibration", None) else {}

            return lambda motion: self.batches.ask(pipe, motion, **sure).result()

        return {name: asking(pipe) for name, pipe in self.pipes.items()}

    @property
    def prompt(self) -> str:
        return next(iter(self.pipes.values())).processor.prompt

    def read(self, path: str, name: str | None = None):
        """One clip as the checkpoint `name` (or any) reads it: its motion, and remarks for the reader.

        Raises:
            ValueError, OSError: the file cannot be used; see [`explain`].
        """
        check_file(path)
        extractor = self.pipes[name or next(iter(self.pipes))].processor.feature_extractor
        motion = READERS(extractor.to_motion, str(path))  # Gradio's own kind of string would import Gradio there
        seconds = len(motion.joints) / motion.fps
        if seconds > MAX_SECONDS:
            raise ValueError(f"The clip lasts {seconds:.0f} s, the limit is {MAX_SECONDS} s. Cut it to a sentence.")
        return motion, [note.text for note in motion.notes if note.argument is not None]

    def check(self, prompt: str, names: list[str]) -> str:
        """The instruction, as [`check_prompt`]. Raises ValueError, too, if these checkpoints cannot be asked."""
        prompt = check_prompt(prompt)
        if not 1 <= len(names) <= 2:
            raise ValueError("Choose one checkpoint, or two to compare them.")
        for name in names:
            if name not in self.pipes:
                raise ValueError(f"No checkpoint is called {name!r}. There are: {', '.join(self.pipes)}.")
        return prompt

    def _translate(self, name: str, path: str, prompt: str) -> dict:
        """A clip in words, see [`result`].

        Raises:
            ValueError, OSError: as [`read`].
        """
        return self.result(name, self.ask(name, self.read(path, name)[0], prompt).result())

    def ask(self, name: str, motion, prompt: str) -> Future:
        """What the checkpoint `name` will say of a clip, for [`result`]."""
        return self.batches.ask(self.pipes[name], motion, details=True, prompt=prompt)

    def result(self, name: str, answers: list[dict]) -> dict:
        """An answer of the checkpoint `name`: JSON-able, with the probability of every word and the motion tokens."""
        answer, extractor = answers[0], self.pipes[name].processor.feature_extractor
        return {
            "model": name,
            "text": answer["translation_text"],
            "words": answer["words"],
            "confidence": answer["confidence"],
            "probability": math.prod(answer["probabilities"]),
            "complete": answer["tokens"][-1:] == [""],
            "motion_codes": answer["motion_codes"],
            "seconds_per_code": extractor.downsample_factor / extractor.fps,
        }


# --- for the player ---------------------------------------------------------------------------------------------------


EMPTY = {"id": "", "name": "", "fps": 1.0, "frames": 0, "motion": "", "seen": "", "facing": 0.0}
EMPTY |= {"centre": [0.0, 0.0, 0.0], "half": [1.0, 1.0]}


def tokens_payload(ident: str, results: list[dict]) -> dict:
    """Motion tokens of the clip `ident` under its time line: a track for each checkpoint, a row for each codebook."""
    tracks = []
    for result in results:
        codes = result["motion_codes"]
        count = len(codes[0]) if codes else 1
        rows = CODEBOOKS.get(count, [f"codebook {book + 1}" for book in range(count)])
        tracks.append({"name": result["model"], "rows": rows, "seconds": result["seconds_per_code"], "codes": codes})
    return {"id": ident, "tracks": tracks}


# --- HTML; whatever comes from outside goes through html.escape -------------------------------------------------------


def translations_html(title: str, results: list[dict], reference: str | None, remarks: list[str]) -> str:
    """The translations of the clip `title` beside each other, with what each checkpoint was unsure of."""
    differing = [set() for _ in results]
    if len(results) == 2:
        first, second = ([word["word"] for word in result["words"]] for result in results)
        for kind, i, j, k, m in difflib.SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
            if kind != "equal":
                differing[0].update(range(i, j))
                differing[1].update(range(k, m))
    cards = [
        _card(result, reference, differs, len(results) > 1) for result, differs in zip(results, differing, strict=True)
    ]
    differ = '<p class="legend">Underlined: words that the two checkpoints read in different ways.</p>'
    return (
        f'<p class="title">{html.escape(title)}</p><div class="translations">{"".join(cards)}</div>{LEGEND}'
        + differ * any(differing)
        + "".join(map(remark_html, remarks))
    )


def _card(result: dict, reference: str | None, differs: set[int], named: bool) -> str:
    shown, rows = [], []
    calibrated = result["confidence"] is not None
    kind = "confidence" if calibrated else "probability"
    words = [(word["word"], word[kind]) for word in result["words"]]
    for number, (word, chance) in enumerate(words):
        text = html.escape(word)
        shown.append(word_html(text, chance, " differs" * (number in differs)))
        rows.append(f'<tr><th scope="row">{text}</th><td>{percent(chance)}</td></tr>')
    lines = [f'<p class="sentence">{" ".join(shown) or "(nothing)"}</p>']
    if calibrated and result["confidence"] < UNSURE:
        lines.insert(0, '<p class="remark">Not sure that this is signing the model knows. Its guess:</p>')
    if reference is not None:
        lines.append(f'<p class="signed">Signed was: <b>{html.escape(reference)}</b></p>')
    lines.append(sureness_html(words, result["probability"], result["complete"], result["confidence"]))
    if rows:
        table = f"<table><caption>{CAPTIONS[kind]}</caption><tbody>{''.join(rows)}</tbody></table>"
        lines.append(f"<details><summary>Word by word</summary>{table}</details>")
    title = f"<h3>{html.escape(result['model'])}</h3>" if named else ""
    return f'<article class="translation">{title}{"".join(lines)}</article>'


def remark_html(text: str) -> str:
    return f'<p class="remark">{html.escape(text)}</p>'


TRANSLATING = remark_html("Translating …")


def error_html(text: str) -> str:
    return f'<p class="remark error"><strong>This did not work.</strong> {html.escape(text)}</p>'


# --- the page ---------------------------------------------------------------------------------------------------------


def our_html(value=None, **kwargs) -> gr.HTML:
    """A part of the page that is our own HTML, in the style of page.css."""
    # not a subclass of gr.HTML: Gradio writes a .pyi file beside the source of every component
    return gr.HTML(
        value,
        css_template=part("page.css") + part("display.css"),
        apply_default_css=False,
        elem_classes="ours",
        **kwargs,
    )


def language(pipes: dict, kind: str) -> str | None:
    """What is "signed" or "written", if all checkpoints agree and say it; letters alone, for HTML."""
    said = [(getattr(pipe.model.config, "languages", None) or {}).get(kind) or {} for pipe in pipes.values()]
    names = {re.sub(r"[^\w ,'-]", "", " and ".join(map(str, languages.values()))) for languages in said}
    return names.pop() or None if len(names) == 1 else None


def introduction(pipes: dict) -> str:
    text = part("introduction.html").replace("LANGUAGE", language(pipes, "written") or "text")
    american = language(pipes, "signed") == "American Sign Language"
    return text if american else re.sub(r"<span>.*?</span>", "", text, flags=re.DOTALL)


def part(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


async def refuse_address(url: str, cache_dir: str):
    """In place of Gradio's function that fetches, into memory, any address that a request names instead of a file."""
    raise gr.Error("Send the file itself; addresses are not fetched.", print_exception=False)


def build(translator: Translator, examples: dict[Path, str | None], kept: bool = False) -> gr.Blocks:
    """The page.

    Args:
        examples: clips of ours and what is signed in them, if that is known.
        kept: whether clips of the camera can be kept.
    """
    gr.processing_utils.async_ssrf_protected_download = refuse_address
    pipes = translator.pipes
    clips, references = [str(path) for path in examples], list(examples.values())
    titles = [f"Example {number + 1}" for number in range(len(clips))]
    names, written = list(pipes), language(pipes, "written")

    def ident(path: str) -> str:
        return f"{hash(path) & 0xFFFFFFFF:08x}"

    def guarded(work, path: str):
        """`work()`, or None and what to tell the visitor."""
        try:
            with in_plain_words(path):
                done = work()
        except Refused as error:
            return None, str(error)
        return done, None

    def show(path: str | None, title: str = ""):
        """What player and result show of a clip before it is translated."""
        if path is None:
            return EMPTY, remark_html(NOTHING_CHOSEN)

        def payload():
            motion, _ = translator.read(path)
            return motion_payload(motion.joints, motion.fps, motion.valid, id=ident(path), name=title)

        clip, trouble = guarded(payload, path)
        return (clip, TRANSLATING) if clip else (EMPTY, error_html(trouble))

    def show_example(number: int | None):
        return None, *(show(None) if number is None else show(clips[number], titles[number]))

    def show_upload(path: str | None):
        return None, *show(path, Path(path or "").name)

    def ask(path: str, prompt: str, chosen: list[str]):
        prompt = translator.check(prompt, chosen)
        return [translator.translate(name, path, prompt) for name in chosen], translator.read(path)[1]

    def answer(number: int | None, upload: str | None, prompt: str, chosen: list[str]):
        path = upload or (clips[number] if number is not None else None)
        if path is None:
            return gr.skip(), remark_html(NOTHING_CHOSEN)
        answers, trouble = guarded(lambda: ask(path, prompt, chosen), path)
        if trouble:
            return gr.skip(), error_html(trouble)
        results, remarks = answers
        title, reference = (Path(path).name, None) if upload else (titles[number], references[number])
        return tokens_payload(ident(path), results), translations_html(title, results, reference, remarks)

    def translate(file: str | None, prompt: str, checkpoints: list[str]) -> dict:
        """Translate one clip: `text`, and for every checkpoint asked its words with probabilities and motion tokens."""
        if file is None:
            raise gr.Error("Send a file: predict(handle_file(path), api_name='/translate')", print_exception=False)
        answers, trouble = guarded(lambda: ask(file, prompt, checkpoints), file)
        if trouble:
            raise gr.Error(html.escape(trouble), print_exception=False)
        results, remarks = answers
        return {"text": results[0]["text"], "file": Path(file).name, "remarks": remarks, "translations": results}

    with gr.Blocks(title=f"LSLM: sign language motion to {written or 'text'}") as page:
        our_html(introduction(pipes))
        if find_spec("lslm"):  # a camera's frames become a clip there
            our_html({"keep": kept}, html_template=part("camera.html"), js_on_load=part("camera.js"))
        with gr.Row(elem_id="page"):
            with gr.Column(elem_id="choose", min_width=0):
                labels = [(title, number) for number, title in enumerate(titles)]
                example = gr.Radio(labels, value=0 if clips else None, label="Examples", visible=bool(clips))
                upload = gr.File(label="Your clip", height=130)
                our_html(
                    '<p class="legend">A motion file, not a video: <code>.npz</code> with <code>joints</code> '
                    "(frames, 52, 3) in metres, y up, and <code>fps</code>; SMPL-X parameters as of Motion-X or "
                    "AMASS; MediaPipe landmarks; <code>.pose</code>, <code>.bvh</code>, <code>.glb</code>; no pickles. "
                    f"At most {MAX_BYTES >> 20} MB and {MAX_SECONDS} s.</p>"
                )
            with gr.Column(elem_id="result", min_width=0):
                result = our_html(
                    html_template=f'<h2>{written or "Translation"}</h2><div role="status">${{value}}</div>'
                )
                player = our_html(html_template=part("player.html"), js_on_load=part("skeleton.js") + part("player.js"))
            with gr.Column(elem_id="ask", min_width=0):
                prompt = gr.Textbox(
                    translator.prompt,
                    label="Instruction",
                    info=f"{MOTION} stands for the clip.",
                    lines=2,
                    max_length=MAX_PROMPT,
                )
                chosen = gr.CheckboxGroup(
                    names,
                    value=names[:2],
                    label="Checkpoints",
                    info="One, or two to compare.",
                    visible=len(names) > 1,
                )
                again = gr.Button("Translate", variant="primary")
        # the button and the JSON are never shown: they make the endpoint for gradio_client
        endpoint, reply = gr.Button(visible=False), gr.JSON(visible=False)

        see = {"concurrency_limit": AT_ONCE, "trigger_mode": "multiple", "api_visibility": "private"}
        see |= {"show_progress": "hidden"}
        read_limits = {"concurrency_id": "model", "concurrency_limit": AT_ONCE}
        read = see | read_limits
        asked, told = [example, upload, prompt, chosen], [player, result]
        example.input(show_example, example, [upload, *told], **see).then(answer, asked, told, **read)
        upload.upload(show_upload, upload, [example, *told], **see).then(answer, asked, told, **read)
        upload.clear(show_upload, upload, [example, *told], **see)
        gr.on([again.click, example.input, upload.upload], None, js=SCROLL)
        gr.on([again.click, prompt.submit, chosen.input], lambda: TRANSLATING, None, result, **see).then(
            answer, asked, told, **read
        )
        page.load(show_example, example, [upload, *told], **see).then(answer, asked, told, **read)
        endpoint.click(translate, [upload, prompt, chosen], reply, api_name="translate", **read_limits)
    return page


def theme() -> gr.Theme:
    """Gradio's plainest theme in the colours of page.css; fonts of the system, so that none is fetched."""
    light, dark, *_ = (dict(re.findall(r"--(\S+): (#\w+);", rule)) for rule in part("page.css").split("}"))
    variables = {
        "page": ["body_background_fill", "background_fill_secondary", "input_background_fill"]
        + ["checkbox_label_background_fill", "checkbox_label_background_fill_selected"],
        "card": ["block_background_fill", "background_fill_primary", "panel_background_fill"]
        + ["checkbox_background_color", "checkbox_label_background_fill_hover"],
        "ink": ["body_text_color", "block_title_text_color", "block_label_text_color", "checkbox_label_text_color"],
        "soft": ["body_text_color_subdued", "checkbox_border_color", "block_info_text_color"]
        + ["input_placeholder_color"],
        "line": ["block_border_color", "border_color_primary", "input_border_color", "checkbox_label_border_color"],
        "accent": ["button_primary_background_fill", "link_text_color", "input_border_color_focus"]
        + ["checkbox_background_color_selected", "checkbox_border_color_selected", "loader_color"],
        "on-accent": ["button_primary_text_color"],
        "hover": ["button_primary_background_fill_hover"],
    }
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    settings = {name: light[colour] for colour, names in variables.items() for name in names}
    settings |= {f"{name}_dark": dark[colour] for colour, names in variables.items() for name in names}
    settings |= {"input_border_width": "1px", "checkbox_label_border_width": "1px"}
    return gr.themes.Base(primary_hue="teal", **fonts).set(**settings)


# --- who comes, and what they leave -----------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def folder_for_uploads() -> str:
    """A folder for what visitors send. It ends with this process; those of processes that were killed end now.

    What is older than `AGE` is deleted from it while the page is open, broken uploads as well.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"):
        if (held := _hold(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(held)
    folder = tempfile.TemporaryDirectory(prefix=FOLDERS, ignore_cleanup_errors=True)
    _hold(folder.name)

    def keep_sweeping():
        while True:
            time.sleep(SWEEP)
            sweep(folder.name, AGE)

    threading.Thread(target=keep_sweeping, daemon=True).start()
    return folder.name


def sweep(folder: str, age: float) -> None:
    """Delete the files of `folder` that are older than `age` seconds."""
    for path in Path(folder).rglob("*"):
        try:
            if not path.is_dir() and time.time() - path.lstat().st_ctime > age:
                path.unlink()
        except OSError:  # gone meanwhile
            continue


def _hold(folder: str | Path) -> int | None:
    """Lock a folder until this process ends, in whatever way; None: somebody else's, or in use."""
    if fcntl is None:
        return None
    try:
        held = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(held)
        return None
    return held


def end_in_order() -> None:
    """A request to end is treated as Ctrl+C, so that nothing of visitors stays behind."""
    for name in ("SIGTERM", "SIGHUP"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.default_int_handler)


class Door:
    """ASGI: a request that does not arrive in time ends, and only who may shows the page in a frame."""

    def __init__(self, app):
        frames = "'self' huggingface.co" if IN_A_SPACE else "'none'"
        self.app = app
        self.headers = [
            (b"content-security-policy", f"frame-ancestors {frames}".encode()),
            (b"x-content-type-options", b"nosniff"),
        ]

    async def __call__(self, scope, receive, send):
        if scope["type"] != "http":
            return await self.app(scope, receive, send)
        left = time.monotonic() + UPLOADING
        arriving = True

        async def receive_in_time():
            nonlocal arriving
            if not arriving:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(left - time.monotonic(), 0))
            except asyncio.TimeoutError:
                return {"type": "http.disconnect"}
            arriving = message.get("more_body", False)
            return message

        async def send_with_headers(message):
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self.headers]
            await send(message)

        try:
            await self.app(scope, receive_in_time, send_with_headers)
        except ClientDisconnect:  # while it was uploading; who went hears nothing, who was too slow hears why
            await send_with_headers({"type": "http.response.start", "status": 408})
            await send({"type": "http.response.body"})


def events(queue) -> list:
    """What visitors of the page wait for: events that are queued or worked on."""
    waiting = [event for line in queue.event_queue_per_concurrency_id.values() for event in line.queue]
    return waiting + [event for job in queue.active_jobs if job for event in job]


def fair(queue, service: Service) -> None:
    """Let no visitor fill the queue, and all together take no more places than there are."""
    push = queue.push

    async def push_in_turn(body, request, username):
        waiting = events(queue)
        counts = {
            "session": sum(event.session_hash == body.session_hash for event in waiting),
            "address": sum(event.request.client.host == request.client.host for event in waiting),
        }
        if any(counts[kind] >= most for kind, most in WAITING.items()):
            return False, "Your other requests are still waiting. Try again in a moment.", "queue_full"
        try:
            service.check_places()
        except Refused as error:
            return False, str(error), "queue_full"
        return await push(body, request, username)

    queue.push = push_in_turn


def serve(pipes: dict, examples: dict[Path, str | None], kept: Path | None = None, **options):
    """Open the page to visitors and programs; `options` are those of Gradio's `launch`. Visitors can keep in the folder
    `kept`, if there is one, what they sign into their camera.

    Returns:
        The application, for [`wait_for_the_end`], and its addresses here and on gradio.live.
    """
    os.environ["GRADIO_TEMP_DIR"] = folder_for_uploads()
    threading.Thread(target=READERS, args=(len, ()), daemon=True).start()  # the first visitor does not wait for it
    translator = Translator(pipes)
    page = build(translator, examples, kept is not None).queue(max_size=MOST)
    service = Service(translator, folder_for_uploads(), MAX_BYTES, lambda: len(events(page._queue)))
    fair(page._queue, service)
    # Against pages of others that reach this one by a name of theirs. Who opens it to a network says so to Gradio.
    here = ["127.0.0.1", "localhost", "*.gradio.live"]
    hosts = here if os.environ.get("GRADIO_SERVER_NAME", here[0]) in here and not IN_A_SPACE else ["*"]
    middleware = [Middleware(TrustedHostMiddleware, allowed_hosts=hosts, www_redirect=False), Middleware(Door)]
    routes = [*service.routes(), *camera.routes(translator.in_turn(), kept)]
    options |= {"app_kwargs": {"middleware": middleware, "routes": routes}}
    options |= {"theme": theme(), "css": part("layout.css"), "max_file_size": MAX_BYTES}
    options |= {"footer_links": ["api", "gradio"], "enable_monitoring": False, "run_history": False, "ssr_mode": False}
    application, *addresses = page.launch(prevent_thread_lock=True, **options)
    application.state.service = service
    return application, *addresses


def wait_for_the_end(application) -> None:
    """Serve until Ctrl+C, SIGTERM or SIGHUP; then finish what was asked for and close. Another one ends it at once."""
    service = application.state.service
    try:
        try:
            end_in_order()
            threading.Event().wait()
        except KeyboardInterrupt:
            count = service.waiting
            print(f"\nFinishing {count} requests (Ctrl+C again ends at once)" if count else "", flush=True)
            service.stop()
            application.get_blocks().close(verbose=False)
    except KeyboardInterrupt:
        pass


def load(models: list[str], **options) -> dict:
    """name -> pipeline of each checkpoint: a folder or a Hub id."""
    from transformers import pipeline

    return {name: pipeline("sign-translation", model=name, **options) for name in models}


def find_examples(folder: Path) -> dict[Path, str | None]:
    """The clips of `folder`/clips and what is signed in them, laid out as in the ASL Cafe data set."""
    texts = folder / "data" / "build.json"
    signed = json.loads(texts.read_text(encoding="utf-8"))["clips"] if texts.is_file() else {}
    return {path: signed.get(path.name) for path in sorted((folder / "clips").glob("*.npz"))}


def main():
    models = [name.strip() for name in os.environ.get("LSLM_MODEL", "").split(",") if name.strip()]
    if not models:
        raise SystemExit("LSLM_MODEL is not set; give it a Hub id or a folder, or several separated by commas")
    os.environ.setdefault("FORWARDED_ALLOW_IPS", "*")  # a Space is behind a server that says who asks
    end_in_order()
    application, *_ = serve(load(models, trust_remote_code=True), find_examples(HERE))
    wait_for_the_end(application)


if __name__ == "__main__":
    main()
