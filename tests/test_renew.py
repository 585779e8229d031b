"""`lslm publish --code-only`: what is on the Hub gets today's code and keeps its weights."""

import difflib
import json
import zipfile
from pathlib import Path

import huggingface_hub
import lslm_cli
import pytest
import transformers
from hub_server import Forks, HubServer
from huggingface_hub import HfApi
from packaging.version import Version
from test_published import ENDS, ZIPS

from lslm import LslmForConditionalGeneration, SignMotionProcessor
from lslm.hub_cards.cards import versions_tested
from lslm.hub_cards.renew import renewed_files

ROOT = Path(__file__).parent.parent
# what huggingface_hub does while it uploads is not ours
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
OLD, TEXT = "2026-11-23", "Some tea and if you please."


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """Let this process put repositories on the Hub on loopback; conftest.py has put it offline."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_DISABLE_XET", True)


@pytest.fixture
def old(tmp_path):
    """The oldest checkpoint that we keep, as a folder."""
    with zipfile.ZipFile(ZIPS[OLD]) as archive:
        archive.extractall(tmp_path / "old")
    return tmp_path / "old" / "checkpoint"


@pytest.fixture
def tokenizer(old, tmp_path):
    """Its sign tokenizer, with its clip, as a folder."""
    folder = tmp_path / "tokenizer"
    LslmForConditionalGeneration.from_pretrained(old).model.vqvae.save_pretrained(folder)
    extractor = SignMotionProcessor.from_pretrained(old).feature_extractor
    del extractor.auto_map  # that of a part of a processor
    extractor.save_pretrained(folder)
    (folder / "example.npz").write_bytes((old / "example.npz").read_bytes())
    return folder


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    with HubServer(tmp_path_factory.mktemp("hub")) as server, Forks(server) as server.forks:
        yield server


def leave_over(folder: Path):
    """Code that an earlier version brought along, and today's does not."""
    (folder / "left_over.py").write_text("# of an earlier version\n")
    entry = folder / "modeling_lslm.py"
    entry.write_text(f"{entry.read_text(encoding='utf-8')}\nfrom .left_over import x\n", encoding="utf-8")


class Repository:
    """A repository on the Hub, made of a folder."""

    def __init__(self, hub, name: str, folder):
        self.hub, self.name = hub, name
        api = HfApi(endpoint=hub.url, token="hf_test")
        api.create_repo(name)
        api.upload_folder(repo_id=name, folder_path=folder)

    def files(self, revision="main") -> dict[str, str]:
        """The SHA-256 of every file."""
        files = self.hub.files(f"models/{self.name}", revision)
        return {name: file["sha256"] for name, file in files.items()}

    def read(self, name: str) -> str:
        return self.hub.object_path(self.files()[name]).read_text(encoding="utf-8")

    def commits(self, revision="main") -> list[str]:
        """The titles of all commits, the last one first."""
        repo = self.hub.repos[f"models/{self.name}"]
        titles, oid = [], repo["branches"][revision]
        while oid:
            titles.append(repo["commits"][oid]["title"])
            oid = repo["commits"][oid]["parent"]
        return titles


def renew(hub, *commands, **env):
    """`lslm publish --code-only ...`, one after the other, in a process of their own; -> their exit codes, what was
    printed, and the last line of each error."""
    code = f"""
import json, lslm_cli
print("CODES", json.dumps([lslm_cli.main(["publish", "--code-only", *argv]) for argv in {commands!r}]))
"""
    done = hub.forks.run(code, **env)
    out, _, codes = done.stdout.rpartition("CODES ")
    return json.loads(codes), out, [line for line in done.stderr.splitlines() if line.startswith("lslm: ")]


def test_one_commit_renews_the_code_and_leaves_the_rest(hub, old):
    """Weights keep their bytes, the card gains a sentence; a process without our package reads in the clip what
    was in it before."""
    repo = Repository(hub, "lslm/old", old)
    before, commits = repo.files(), repo.commits()
    codes, out, _ = renew(hub, ["lslm/old"], ["lslm/old"])
    assert codes == [0, 0] and f'it works: "{TEXT}"' in out
    stopped = Version(transformers.__version__) >= Version(ENDS[OLD][0])
    assert (ENDS[OLD][1] if stopped else "the code before gave the same") in out
    after = repo.files()
    assert repo.commits() == ["Renew the code with lslm", *commits]
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    assert "modeling_lslm.py" in changed and "model.safetensors" in before
    assert {name for name in changed if not name.endswith(".py")} == {"README.md"}
    code = {name for name in after if name.endswith(".py")}
    for name in code:
        travels = next(ROOT / d / name for d in ("modeling_lslm", "processing") if (ROOT / d / name).is_file())
        assert repo.read(name) == travels.read_text(encoding="utf-8"), name
    lines = difflib.ndiff((old / "README.md").read_text().splitlines(), repo.read("README.md").splitlines())
    assert [line for line in lines if line[0] in "+-"] == ["+ ", f"+ {versions_tested()}"]
    assert out.index("it works") < out.index("is today's") < out.index("nothing was sent")  # the second time


def test_a_dry_run_lists_what_would_change(hub, old):
    leave_over(old)
    (old / "handler.py").write_text("# the owner's\n")
    (old / "rotations.py").unlink()
    repo = Repository(hub, "lslm/dry", old)
    codes, out, _ = renew(hub, ["lslm/dry", "--dry-run"], ["lslm/dry", "--dry-run", "--revision", "next"])
    assert codes == [0, 0] and out.count("nothing was sent") == 2
    listed = [line.split() for line in out.splitlines() if len(line.split()) == 2]
    assert listed[: len(listed) // 2] == listed[len(listed) // 2 :]  # a branch that is not there is made from main
    listed = {name: what for what, name in listed}
    assert listed["left_over.py"] == "deleted" and listed["rotations.py"] == "added"
    assert listed["modeling_lslm.py"] == listed["README.md"] == "changed"
    assert not {"model.safetensors", "handler.py"} & set(listed)
    assert len(repo.commits()) == 2 and list(hub.repos["models/lslm/dry"]["branches"]) == ["main"]


def test_a_branch_leaves_main_alone(hub, old):
    """And without a clip the checkpoint is loaded, no more."""
    leave_over(old)
    (old / "example.npz").unlink()
    repo = Repository(hub, "lslm/branch", old)
    before, commits = repo.files(), repo.commits()
    codes, out, _ = renew(hub, ["lslm/branch", "--revision", "next", "--message", "For new transformers"])
    assert codes == [0] and "it loads" in out and "give --clip" in out
    assert repo.commits("next") == ["For new transformers", *commits]
    old_code = {"left_over.py", "pickle_machine.py"}
    assert repo.files() == before and not old_code & repo.files("next").keys()
    assert not [name for name in before.keys() - repo.files("next").keys() if not name.endswith(".py")]


def test_entries_follow_the_code_and_nothing_else_changes(old):
    stale = {
        "config.json": {"auto_map": {"AutoModel": "old_name.LSLM", "AutoModelForCausalLM": "mine.Model"}},
        "processor_config.json": {"auto_map": {"AutoProcessor": "old_name.Processor"}},
        "tokenizer_config.json": {"auto_map": {"AutoProcessor": "old_name.Processor"}},
    }
    shipped = {name: (old / name).read_text(encoding="utf-8") for name in stale}
    assert not set(stale) & set(renewed_files(old, "lslm"))
    for name, entries in stale.items():
        config = json.loads(shipped[name]) | entries | {"of_theirs": [0.1, None]}
        for nested, entry in (("vqvae_config", "AutoModel"), ("feature_extractor", "AutoFeatureExtractor")):
            if nested in config:
                config[nested]["auto_map"][entry] = "old_name.Other"
        (old / name).write_text(json.dumps(config), encoding="utf-8")
    new = renewed_files(old, "lslm")
    for name, text in shipped.items():
        expected = json.loads(text) | {"of_theirs": [0.1, None]}
        if name == "config.json":
            expected["auto_map"]["AutoModelForCausalLM"] = "mine.Model"
        assert json.loads(new[name]) == expected
    # a nested configuration without entries gets none
    config = json.loads(shipped["config.json"])
    del config["vqvae_config"]["auto_map"]
    (old / "config.json").write_text(json.dumps(config), encoding="utf-8")
    assert "config.json" not in renewed_files(old, "lslm")


def test_the_code_of_todays_checkpoints_is_todays(checkpoint, tokenizer):
    assert renewed_files(checkpoint, "lslm") == {}
    assert renewed_files(tokenizer, "sign_motion_vqvae") == {}


def test_a_card_is_told_the_new_versions(old):
    """What it said of versions is replaced where it stands, line ends and all else stay."""
    card = (old / "README.md").read_text(encoding="utf-8")
    said = card.replace("## Licences", "Code tested with transformers 4.57 and torch 2.9.\n\n## Licences")
    (old / "README.md").write_bytes(said.replace("\n", "\r\n").encode())
    expected = card.replace("## Licences", f"{versions_tested()}\n\n## Licences").replace("\n", "\r\n")
    assert renewed_files(old, "lslm")["README.md"] == expected.encode()
    (old / "README.md").write_text("# mine\n", encoding="utf-8")  # nothing that we wrote: nothing to add to
    assert "README.md" not in renewed_files(old, "lslm")


def test_a_sign_tokenizer_gives_the_same_codes(hub, tokenizer):
    path = tokenizer / "modeling_sign_motion.py"
    path.write_text(path.read_text(encoding="utf-8") + "# older\n", encoding="utf-8")
    repo = Repository(hub, "lslm/tokenizer", tokenizer)
    before = repo.files()
    codes, out, _ = renew(hub, ["lslm/tokenizer"])
    assert codes == [0] and "it works: [" in out and "the code before gave the same" in out
    assert {name for name, content in repo.files().items() if content != before[name]} == {path.name}


def test_another_answer_than_before_is_told(hub, tokenizer):
    path = tokenizer / "modeling_sign_motion.py"
    other = "\ndecode = SignMotionVQVAE.decode\nSignMotionVQVAE.decode = lambda *a, **k: decode(*a, **k) + 1\n"
    path.write_text(path.read_text(encoding="utf-8") + other, encoding="utf-8")
    clip = str((tokenizer / "example.npz").rename(tokenizer.parent / "clip.npz"))
    Repository(hub, "lslm/other", tokenizer)
    codes, _, errors = renew(hub, ["lslm/other", "--clip", clip])
    assert codes == [2] and "was sent, but gives [" in errors[0] and "where the code before gave [" in errors[0]


def test_what_cannot_be_renewed_is_one_line(hub, tmp_path):
    for name, content in (("README.md", "# nothing"), ("config.json", '{"model_type": "llama"}')):
        (tmp_path / name).write_text(content)
        Repository(hub, f"lslm/only-{name[:6].lower()}", tmp_path)
    codes, _, errors = renew(hub, ["lslm/only-readme"], ["lslm/only-config"], ["lslm/nowhere"])
    assert codes == [2, 2, 2]
    assert "lslm/only-readme is not a checkpoint: it has no config.json" in errors[0]
    assert "a model of type 'llama', expected lslm or sign_motion_vqvae" in errors[1]
    assert "Repository Not Found" in errors[2] and "lslm/nowhere" in errors[2]


def test_who_may_not_write_is_told_and_sends_nothing(hub, tokenizer):
    (tokenizer / "rotations.py").write_text("# older\n")
    repo = Repository(hub, "lslm/theirs", tokenizer)
    commands = ["lslm/theirs"], ["lslm/theirs", "--revision", "next"]
    codes, _, errors = renew(hub, *commands, HF_TOKEN="hf_other")
    assert codes == [2, 2]
    assert all("You may not write under the name lslm" in error for error in errors)
    assert len(repo.commits()) == 2 and list(hub.repos["models/lslm/theirs"]["branches"]) == ["main"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--code-only", "folder", "lslm/x"], "takes ORG/NAME alone, its weights stay; folder lslm/x came"),
        (["--code-only", "lslm/x", "--results", "r.json", "--license", "mit"], "leave out --license, --results"),
        (["lslm/x", "--adapter-only", "--code-only"], "leave out --adapter-only"),
        (["--code-only", "lslm/x", "--base-model", "a/b", "--private"], "leave out --private, --base-model"),
        (["--code-only", "lslm/x", "--license-name", "a", "--license-link", "b"], "--license-name, --license-link"),
        (["--code-only", "lslm/x", "--clip", "no.npz"], "no file no.npz"),
        (["--code-only", "not a name"], "Repo id"),
        (["lslm/x"], "expected FOLDER ORG/NAME, or --code-only ORG/NAME; only lslm/x came"),
    ],
)
def test_flags_that_make_no_sense_are_refused_by_name(capsys, argv, said):
    assert lslm_cli.main(["publish", *argv]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("lslm: ") and said in error
