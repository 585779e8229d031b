"""A Hugging Face Hub on loopback, so that publishing and loading are tested with the real clients.

It speaks the part of the Hub's protocol that they use for it: the server is FastAPI, which comes with gradio. A test
file that wants the `hub` fixture says `pytest_plugins = ["hub_server"]`. Clients have to have Xet switched off: one
that has hf_xet does not ask the server whether it speaks it.
(PYTEST_DONT_REWRITE: some files import the helpers before pytest sees the fixture.)
"""

import base64
import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import traceback
import urllib.parse
from pathlib import Path
from typing import Annotated, NamedTuple

import pytest
import uvicorn
import yaml
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request
from fastapi.responses import FileResponse, JSONResponse

TOKEN = "hf_test"
# the names under which the owner of a token may write; the first is his own
TOKENS = {TOKEN: ["tester", "lslm"], "hf_other": ["other"]}
LARGE_FILES = (".npz", ".parquet", ".png", ".safetensors")  # go through LFS
LICENSES = ["apache-2.0", "mit", "cc-by-4.0", "cc-by-nc-4.0", "llama3.2", "other"]  # of many more


class Asked(NamedTuple):
    """A request and the status of its answer."""

    method: str
    path: str
    status: int


class HubServer:
    """A running Hub.

    Args:
        root: folder for the contents of files, by their SHA-256.

    Attributes:
        repos: by "models/OWNER/NAME" or "datasets/OWNER/NAME"; dicts of `private`, `branches`, `tags` (names to commit
            ids) and `commits`; a commit names all its files.
        requests: what was asked.
        room: bytes of large files that are still taken. What is larger is refused with an error that clients give up
            at (403, as for an address that expired). None: all.
    """

    def __init__(self, root: str | Path):
        self.root = Path(root)
        (self.root / "objects").mkdir(parents=True)
        self.repos: dict[str, dict] = {}
        self.requests: list[Asked] = []
        self.room: int | None = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        app = FastAPI()
        app.include_router(router)
        app.state.hub = self

        @app.middleware("http")
        async def note(request: Request, answer):
            response = await answer(request)
            self.requests.append(Asked(request.method, request.url.path, response.status_code))
            return response

        self.server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run, args=([self.listener],), daemon=True)

    def __enter__(self) -> "HubServer":
        self.thread.start()
        return self

    def __exit__(self, *exception) -> None:
        self.server.should_exit = True
        self.thread.join()

    def object_path(self, sha256: str) -> Path:
        return self.root / "objects" / sha256

    def store(self, content: bytes, large: bool) -> dict:
        """Keep a file; -> what a commit says of it: `oid` is the name that clients know its content by."""
        sha256 = hashlib.sha256(content).hexdigest()
        self.object_path(sha256).write_bytes(content)
        oid = sha256 if large else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return {"oid": oid, "sha256": sha256, "size": len(content), "large": large}

    def files(self, repo: str, revision: str = "main") -> dict[str, dict]:
        return self.repos[repo]["commits"][find_commit(self.repos[repo], revision)]["files"]


def refusal(status: int, message: str, code: str | None = None) -> HTTPException:
    """An answer that is no success; by `code` clients know which exception to raise."""
    return HTTPException(status, headers={"X-Error-Message": message} | ({"X-Error-Code": code} if code else {}))


def add_commit(repo: dict, branch: str, title: str, files: dict) -> str:
    """Put a commit on the branch and return its id, of 40 hexadecimal digits: transformers takes no others."""
    commit = {"parent": repo["branches"].get(branch), "title": title, "files": files}
    oid = hashlib.sha1(json.dumps([commit, time.time_ns()]).encode()).hexdigest()
    repo["commits"][oid], repo["branches"][branch] = commit, oid
    return oid


def find_commit(repo: dict, revision: str) -> str:
    """The id of the commit that a branch, a tag or a commit id means."""
    names = {oid: oid for oid in repo["commits"]} | repo["tags"] | repo["branches"]
    if revision not in names:
        raise refusal(404, f"Invalid rev id: {revision}", "RevisionNotFound")
    return names[revision]


def describe(path: str, file: dict) -> dict:
    """A file as the Hub lists it."""
    entry = {"type": "file", "path": path, "oid": file["oid"], "size": file["size"]}
    return entry | ({"lfs": {"oid": file["oid"], "size": file["size"], "pointerSize": 134}} if file["large"] else {})


def front_matter(text: str) -> dict:
    """The metadata on top of a README.md. Raises a refusal if it is not YAML."""
    try:
        return yaml.safe_load(text.split("---")[1]) if text.startswith("---") else {}
    except yaml.YAMLError as error:
        raise refusal(400, f"Invalid metadata in README.md: {' '.join(str(error).split())}") from None


# --- what is asked ----------------------------------------------------------------------------------------------------


async def the_hub(request: Request) -> HubServer:
    return request.app.state.hub


async def user_names(request: Request) -> list[str]:
    """The names under which the user may write: none without a token."""
    token = request.headers.get("Authorization", "").removeprefix("Bearer ").strip()
    if token and token not in TOKENS:
        raise refusal(401, "Invalid credentials in Authorization header")
    return TOKENS.get(token, [])


Hub = Annotated[HubServer, Depends(the_hub)]
Names = Annotated[list[str], Depends(user_names)]


async def visible_repo(request: Request, hub: Hub, names: Names) -> dict:
    """The repository in the path of a request: "/api/KIND/OWNER/NAME/..." or "/REPO/..."."""
    given = request.path_params
    path = f"{given['kind']}/{given['owner']}/{given['name']}" if "kind" in given else given["repo_path"]
    repo = hub.repos.get(path if path.count("/") == 2 else f"models/{path}")
    if repo is None or (repo["private"] and repo["owner"] not in names):
        # who may not see a repository is told the same as if there were none
        raise refusal(404 if names else 401, "Repository not found", "RepoNotFound")
    return repo


def check_owner(owner: str, names: list[str]) -> None:
    if owner not in names:
        raise refusal(403 if names else 401, f"You may not write under the name {owner}")


async def own_repo(repo: Annotated[dict, Depends(visible_repo)], names: Names) -> dict:
    """A repository that the request changes."""
    check_owner(repo["owner"], names)
    return repo


Repo = Annotated[dict, Depends(visible_repo)]
OwnRepo = Annotated[dict, Depends(own_repo)]
router = APIRouter()
API = "/api/{kind}/{owner}/{name}"


@router.get("/api/whoami-v2")
async def whoami(names: Names):
    if not names:
        raise refusal(401, "Invalid username or password.")
    organizations = [{"type": "org", "name": name, "roleInOrg": "admin"} for name in names[1:]]
    return {"type": "user", "name": names[0], "fullname": names[0], "orgs": organizations}


@router.post("/api/validate-yaml")
async def validate_yaml(asked: dict):
    if front_matter(asked["content"]).get("license", "mit") not in LICENSES:
        raise HTTPException(400, f'"license" must be one of [{", ".join(LICENSES)}]')
    return {"errors": [], "warnings": []}


@router.post("/api/repos/create")
async def create_repo(asked: dict, hub: Hub, names: Names):
    owner = asked.get("organization") or next(iter(names), "")
    check_owner(owner, names)
    path = f"{asked.get('type') or 'model'}s/{owner}/{asked['name']}"
    url = f"{hub.url}/{path.removeprefix('models/')}"
    if path in hub.repos:
        return JSONResponse({"error": f"{path} is there already", "url": url}, 409)
    private = bool(asked.get("private")) or asked.get("visibility") == "private"
    repo = {"path": path, "owner": owner, "private": private, "branches": {}, "tags": {}, "commits": {}}
    add_commit(repo, "main", "initial commit", {".gitattributes": hub.store(b"", large=False)})
    hub.repos[path] = repo
    return {"url": url}


@router.post(API + "/preupload/{revision}")
async def preupload(asked: dict, repo: Repo, hub: Hub, revision: str):
    """Say of each file whether it goes through LFS and what is there under its name, so that it may be left out."""
    there, answers = hub.files(repo["path"], revision), []
    for path in (file["path"] for file in asked["files"]):
        mode = "lfs" if path.endswith(LARGE_FILES) else "regular"
        oid = there[path]["oid"] if path in there else None
        answers.append({"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid})
    return {"files": answers}


@router.post("/{repo_path:path}.git/info/lfs/objects/batch")
async def lfs_batch(request: Request, hub: Hub):
    """Say where to send each large file; one without "actions" is there already."""
    objects = [{"oid": asked["oid"], "size": asked["size"]} for asked in (await request.json())["objects"]]
    for wanted in objects:
        if not hub.object_path(wanted["oid"]).exists():
            wanted["actions"] = {"upload": {"href": f"{hub.url}/lfs/{wanted['oid']}", "header": {}}}
    return {"transfer": "basic", "objects": objects}


@router.put("/lfs/{sha256}")
async def lfs_upload(request: Request, hub: Hub, sha256: str):
    content = await request.body()
    if hub.room is not None:
        if len(content) > hub.room:
            raise refusal(403, "Request has expired")
        hub.room -= len(content)
    if hub.store(content, large=True)["oid"] != sha256:
        raise refusal(400, f"the content is not that of {sha256}")


@router.post(API + "/commit/{revision}")
async def commit(request: Request, repo: OwnRepo, hub: Hub, revision: str):
    """A line of JSON is the header or what to do to a file."""
    lines = [json.loads(line) for line in (await request.body()).splitlines()]
    (_, header), *operations = [(line["key"], line["value"]) for line in lines]
    if header.get("parentCommit") not in (None, repo["branches"][revision]):
        raise refusal(412, "A commit has happened since. Please refresh and try again.")
    files = dict(hub.files(repo["path"], revision))
    for key, value in operations:
        path = value["path"]
        if key == "file":
            files[path] = hub.store(base64.b64decode(value["content"]), large=False)
        elif key == "lfsFile":
            files[path] = hub.store(hub.object_path(value["oid"]).read_bytes(), large=True)
        elif key == "deletedFile":
            del files[path]
    oid = add_commit(repo, revision, header["summary"], files)
    url = f"{hub.url}/{repo['path'].removeprefix('models/')}/commit/{oid}"
    return {"success": True, "commitOid": oid, "commitUrl": url}


@router.post(API + "/branch/{branch}")
async def create_branch(asked: dict, repo: OwnRepo, branch: str):
    if branch in repo["branches"]:
        raise refusal(409, f"Reference already exists: {branch}")
    repo["branches"][branch] = find_commit(repo, asked.get("startingPoint", "main"))


@router.post(API + "/tag/{revision}")
async def create_tag(asked: dict, repo: OwnRepo, revision: str):
    repo["tags"][asked["tag"]] = find_commit(repo, revision)


@router.get(API + "/commits/{revision}")
async def commits(repo: Repo, revision: str):
    oid, answers = find_commit(repo, revision), []
    while oid:
        title, date = repo["commits"][oid]["title"], "2026-01-01T00:00:00.000Z"
        answers.append({"id": oid, "authors": [], "date": date, "title": title, "message": ""})
        oid = repo["commits"][oid]["parent"]
    return answers


@router.get(API)
@router.get(API + "/revision/{revision}")
async def info(repo: Repo, hub: Hub, revision: str = "main"):
    files = hub.files(repo["path"], revision)
    readme = files.get("README.md")
    card = front_matter(hub.object_path(readme["sha256"]).read_text(encoding="utf-8")) if readme else {}
    about = {"id": repo["path"].split("/", 1)[1], "private": repo["private"], "sha": find_commit(repo, revision)}
    siblings = [{"rfilename": path} for path in sorted(files)]
    keys = {name: card.get(name) for name in ("tags", "pipeline_tag", "library_name")}
    return about | keys | {"siblings": siblings, "cardData": card, "gated": False, "downloads": 0, "likes": 0}


@router.get(API + "/tree/{revision}")
@router.get(API + "/tree/{revision}/{folder:path}")
async def tree(repo: Repo, hub: Hub, revision: str, folder: str = "", recursive: bool = False):
    files, start = hub.files(repo["path"], revision), f"{folder}/" if folder else ""
    inside = {path: file for path, file in files.items() if path.startswith(start)}
    if not inside:
        raise refusal(404, f"{folder} is no folder of {revision}", "EntryNotFound")
    folders = {path[: end.start()] for path in inside for end in re.finditer("/", path) if end.start() > len(start)}
    entries = [{"type": "directory", "path": path, "oid": "0" * 40, "size": 0} for path in sorted(folders)]
    entries += [describe(path, file) for path, file in inside.items()]
    return [entry for entry in entries if recursive or "/" not in entry["path"].removeprefix(start)]


@router.post(API + "/paths-info/{revision}")
async def paths_info(request: Request, repo: Repo, hub: Hub, revision: str):
    paths = urllib.parse.parse_qs((await request.body()).decode())["paths"]
    files = hub.files(repo["path"], revision)
    return [describe(path, files[path]) for path in paths if path in files]


@router.api_route("/{repo_path:path}/resolve/{revision}/{path:path}", methods=["GET", "HEAD"])
async def resolve(repo: Repo, hub: Hub, revision: str, path: str):
    oid = find_commit(repo, revision)
    file = hub.files(repo["path"], revision).get(path)
    if file is None:
        no_entry = refusal(404, "Entry not found", "EntryNotFound")
        no_entry.headers["X-Repo-Commit"] = oid  # clients note that it is not there
        raise no_entry
    return FileResponse(hub.object_path(file["sha256"]), headers={"X-Repo-Commit": oid, "ETag": f'"{file["oid"]}"'})


# --- clients ----------------------------------------------------------------------------------------------------------


def client_env(hub: HubServer, **env: str | None) -> dict[str, str]:
    """The environment of a process whose Hub is `hub`: nothing inherited that steers clients (tests are offline), an
    empty HF_HOME of its own, then `env`, where None takes a variable out (HF_TOKEN=None: anonymous)."""
    steers = re.compile(r"(HF_|HUGGING|TRANSFORMERS_|DATASETS_).*|.*_proxy", re.IGNORECASE)
    clean = {name: value for name, value in os.environ.items() if not steers.fullmatch(name)}
    clean |= {"HF_ENDPOINT": hub.url, "HF_TOKEN": TOKEN, "HF_HOME": tempfile.mkdtemp(prefix="client-", dir=hub.root)}
    for unwanted in ("XET", "TELEMETRY", "UPDATE_CHECK", "PROGRESS_BARS"):
        clean[f"HF_HUB_DISABLE_{unwanted}"] = "1"
    return {name: value for name, value in (clean | env).items() if value is not None}


def run_client(hub: HubServer, code_or_argv: str | list, check: bool = True, **env: str | None):
    """Run Python code or a command in a fresh process whose Hub is `hub`; -> the CompletedProcess.

    With `check`, a process that ends with an error fails the test, and what it printed and asked is shown.
    """
    argv = [sys.executable, "-c", textwrap.dedent(code_or_argv)] if isinstance(code_or_argv, str) else code_or_argv
    argv = [os.fspath(part) for part in argv]
    done = subprocess.run(argv, env=client_env(hub, **env), capture_output=True, text=True, timeout=300)
    return _checked(done, hub) if check else done


def _checked(done: subprocess.CompletedProcess, hub: HubServer) -> subprocess.CompletedProcess:
    if done.returncode != 0:
        printed = f"--- stdout\n{done.stdout[-2000:]}\n--- stderr\n{done.stderr[-4000:]}"
        asked = "\n".join(" ".join(map(str, request)) for request in hub.requests[-8:])
        pytest.fail(f"ended with {done.returncode}\n{printed}\n--- last requests\n{asked}", pytrace=False)
    return done


class Forks:
    """Does what `run_client` does in processes that are forked from one that has imported our package, and has run
    nothing: an import takes longer than most of what is tested. Not for those who shall lack our package."""

    def __init__(self, hub: HubServer):
        self.hub = hub
        argv, pipe = [sys.executable, __file__], subprocess.PIPE
        self.server = subprocess.Popen(argv, env=client_env(hub), stdin=pipe, stdout=pipe, text=True)

    def run(self, code_or_argv: str | list, check: bool = True, **env: str | None):
        """Python code, or the arguments of `lslm`."""
        code = code_or_argv
        if not isinstance(code, str):
            argv = [os.fspath(part) for part in code_or_argv]
            code = f"import sys, lslm_cli\nsys.exit(lslm_cli.main({argv!r}))"
        with tempfile.TemporaryDirectory(dir=self.hub.root) as folder:
            print(json.dumps([code, client_env(self.hub, **env), folder]), file=self.server.stdin, flush=True)
            returncode = int(self.server.stdout.readline())
            printed = [Path(folder, name).read_text() for name in ("1", "2")]
        done = subprocess.CompletedProcess([code], returncode, *printed)
        return _checked(done, self.hub) if check else done

    def __enter__(self) -> "Forks":
        return self

    def __exit__(self, *exception) -> None:
        self.server.stdin.close()
        self.server.wait()


def serve_forks() -> None:
    """The other end of `Forks`."""
    import huggingface_hub.constants as constants
    import lslm_cli  # noqa: F401
    import peft  # noqa: F401

    import lslm.hub_cards.renew
    import lslm.training.stages.align
    import lslm.training.stages.tokenizer  # noqa: F401

    for line in sys.stdin:
        code, environment, folder = json.loads(line)
        child = os.fork()
        if child:
            print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
            continue
        signal.alarm(300)
        for number in (1, 2):
            os.dup2(os.open(f"{folder}/{number}", os.O_WRONLY | os.O_CREAT), number)
        os.environ.clear()
        os.environ.update(environment)
        constants.HF_HOME = environment["HF_HOME"]
        constants.HF_HUB_CACHE = f"{constants.HF_HOME}/hub"
        sys.argv = ["-c"]
        returncode = 1
        try:
            exec(compile(code, "<client>", "exec"), {"__name__": "__main__"})
            returncode = 0
        except SystemExit as error:
            returncode = error.code or 0
        except BaseException:
            traceback.print_exc()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(returncode)


@pytest.fixture
def hub(tmp_path):
    """A running Hub with nothing on it."""
    with HubServer(tmp_path / "hub") as server:
        yield server


if __name__ == "__main__":
    serve_forks()
