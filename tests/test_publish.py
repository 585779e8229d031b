"""`lslm publish`, `lslm data push`: what goes to a Hub works from there, where our package is not installed."""

import inspect
import json
import re
import shutil
from pathlib import Path

import huggingface_hub
import lslm_cli
import numpy as np
import pytest
import torch
import yaml
from hub_server import Forks, HubServer, run_client
from huggingface_hub import HfApi, RepoCard, hf_hub_download
from test_remote_code import STRANGER
from training_fixtures import TOY_VQVAE, recipe
from transformers import pipeline

import lslm.hub_cards.publish as publishing
from lslm import LslmForConditionalGeneration, SignMotionFeatureExtractor, SignMotionProcessor
from lslm.hub_cards.cards import SignData, dataset_card
from lslm.training.dataset.motion_text import MotionText
from lslm.training.record import recorded

pytest_plugins = ["training_fixtures", "hub_server"]
BASE = ["--base-model", "HuggingFaceTB/SmolLM2-135M-Instruct"]
NAME = "lslm/toy"


@pytest.fixture(autouse=True)
def online(monkeypatch):
    """Let this process ask the Hub on loopback; conftest.py has put it offline."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)


def files(hub, name=NAME, **where) -> set[str]:
    return set(HfApi(endpoint=hub.url, token="hf_test").list_repo_files(name, **where))


@pytest.fixture(scope="module")
def clip(toy, tmp_path_factory):
    """A clip of the toy data set as a file."""
    path = tmp_path_factory.mktemp("clip") / "clip.npz"
    np.savez(path, joints=MotionText(str(toy / "set"), "test", 15.0).joints[0].astype(np.float32), fps=15.0)
    return path


@pytest.fixture(scope="module")
def published(toy_align, clip, tmp_path_factory):
    """A Hub to which a LoRA checkpoint was published, with its scores; and what the command printed."""
    folder = tmp_path_factory.mktemp("run") / "2_align"
    flags = {"output_dir": folder, "limit": 4, "lora_r": 8, "max_steps": 60, "augment": "false", "learning_rate": 1e-2}
    assert lslm_cli.main(["align", *recipe(**toy_align | flags)]) == 0
    scores = {"metrics": {"wer": 12.5, "bleu4": 61.0, "utterances": 4}, "split": "test", "model": str(folder)}
    scores |= {"command": "lslm evaluate", "seed": 0, "signatures": {}, "versions": {}, "data": "toy", "machine": "x"}
    (folder.parent / "scores").mkdir()
    (folder.parent / "scores" / "results.json").write_text(json.dumps(scores))
    with HubServer(tmp_path_factory.mktemp("hub")) as hub, Forks(hub) as hub.forks:
        done = hub.forks.run(["publish", folder, NAME, "--clip", clip, *BASE])
        yield hub, done.stdout, folder


def test_it_is_complete_in_one_commit(published):
    hub, out, folder = published
    assert "it works" in out and "model.safetensors" in out
    found = files(hub)
    assert {"README.md", "config.json", "model.safetensors", "processor_config.json", "example.npz"} <= found
    assert {"modeling_lslm.py", "processing_lslm.py", "pipeline_lslm.py", "motion_features.py"} <= found
    assert not [name for name in found if name.endswith((".bin", ".pkl", ".pt", ".png")) or "optimizer" in name]
    # so that who trains on has all stages, and no path of this machine
    sent = hf_hub_download(NAME, "stages.yaml", endpoint=hub.url, token="hf_test")
    stages, here = yaml.safe_load(Path(sent).read_text()), recorded(folder)
    assert list(stages) == list(here) == ["tokenizer", "align", "made_with"]
    places = {key: Path(here["align"][key]).name for key in ("data", "tokenizer", "backbone", "output_dir")}
    assert stages["align"] == here["align"] | places
    commits = HfApi(endpoint=hub.url, token="hf_test").list_repo_commits(NAME)
    assert [commit.title for commit in commits][:1] == ["Publish with lslm"] and len(commits) == 2  # the first is empty


def test_a_stranger_gets_the_same_logits_and_can_follow_the_card(published, clip, tmp_path):
    """Empty cache, none of our packages, no peft: the card's own code runs, and logits are equal to the bit."""
    hub, _, folder = published
    inputs = SignMotionProcessor.from_pretrained(folder)(motion=str(clip))
    expected = pipeline("sign-translation", model=str(folder))(str(clip))
    assert expected[0]["translation_text"]
    merged = LslmForConditionalGeneration.from_pretrained(folder).merge_lora().eval()
    torch.save({"inputs": dict(inputs), "logits": merged(**inputs).logits}, tmp_path / "expected.pt")
    card = hub.forks.run(f"from huggingface_hub import ModelCard; print(ModelCard.load({NAME!r}).content)").stdout
    blocks = re.findall(r"```python\n(.*?)```", card, re.DOTALL)
    first, second, with_package = blocks
    code = f"""{STRANGER}
{first}
{second}
import torch
expected = torch.load({str(tmp_path / "expected.pt")!r})
again = AutoModel.from_pretrained({NAME!r}, trust_remote_code=True)
assert torch.equal(again(**expected["inputs"]).logits, expected["logits"])
print("RESULT", pipe(clip)[0]["translation_text"])
"""
    # sums depend on the number of threads
    out = run_client(hub, code, PYTHONPATH="", OMP_NUM_THREADS=str(torch.get_num_threads())).stdout
    assert out.rpartition("RESULT ")[2].strip() == expected[0]["translation_text"]
    assert out.count(expected[0]["translation_text"]) >= 3  # by the pipeline, by the Auto classes, and at the end
    assert "61.0" in card and "12.5" in card and "pipeline_tag: translation" in card
    hub.forks.run(f"{with_package}\nassert type(pipe.model).__module__.startswith('lslm.')")


def test_branch_tag_and_private(published, toy, toy_aligned, clip, tmp_path):
    hub, _, _ = published
    api = HfApi(endpoint=hub.url, token="hf_test")
    api.create_repo("lslm/backbone")
    upload = f"upload_folder(repo_id='lslm/backbone', folder_path={str(toy / 'llm')!r})"
    hub.forks.run(f"import huggingface_hub; huggingface_hub.{upload}")
    adapter = shutil.copytree(toy_aligned, tmp_path / "adapter")
    config = json.loads((adapter / "config.json").read_text()) | {"backbone": "lslm/backbone"}
    (adapter / "config.json").write_text(json.dumps(config))
    api.create_tag(NAME, tag="v1")
    more = ["--clip", clip, *BASE, "--revision", "next", "--message", "Second", "--adapter-only"]
    hub.forks.run(["publish", adapter, NAME, *more])
    assert [commit.title for commit in api.list_repo_commits(NAME, revision="next")][0] == "Second"
    assert api.list_repo_commits(NAME)[0].title == "Publish with lslm"
    size = {r: api.get_paths_info(NAME, "model.safetensors", revision=r)[0].size for r in ("v1", "next")}
    assert size["next"] < size["v1"]  # an adapter alone
    card = api.hf_hub_download(NAME, "README.md", revision="next", local_dir=tmp_path)
    assert "base_model_relation: adapter" in Path(card).read_text()
    api.create_repo("lslm/secret", private=True)
    done = hub.forks.run(
        "from transformers import AutoModel; AutoModel.from_pretrained('lslm/secret', trust_remote_code=True)",
        check=False,
        HF_TOKEN=None,
    )
    assert done.returncode and "lslm/secret is not a local folder" in done.stderr


def test_a_broken_upload_is_one_line_and_goes_on(published, toy_model, clip):
    """Cut in the middle, then given again: what had arrived is not sent a second time."""
    hub, _, _ = published
    argv = ["publish", toy_model, "lslm/broken", "--clip", clip, *BASE]
    hub.room = 3 * clip.stat().st_size // 2  # for the clip, and not for the weights
    done = hub.forks.run(argv, check=False)
    assert done.returncode == 2 and "Traceback" not in done.stderr and "lslm: " in done.stderr.splitlines()[-1]
    hub.room = None
    assert not {name for name in files(hub, "lslm/broken") if name.endswith(".py")}  # half a model is not to be seen
    sent = len(hub.requests)
    hub.forks.run(argv)
    puts = [request for request in hub.requests if request.method == "PUT" and request.path.startswith("/lfs/")]
    whole = [request.path for request in puts if request.status == 200]
    assert len(whole) == len(set(whole))
    assert "model.safetensors" in files(hub, "lslm/broken") and sent < len(hub.requests)
    hub.forks.run(argv)  # a third time: nothing is left to send
    assert len([r for r in hub.requests if r.method == "PUT" and r.path.startswith("/lfs/")]) == len(puts)


def test_a_sign_tokenizer_and_a_data_set(published, toy, toy_tokenizer, clip):
    hub, _, _ = published
    out = hub.forks.run(["publish", toy_tokenizer, "lslm/tokenizer", "--clip", clip, "--license", "mit"]).stdout
    assert "it works: [" in out and "modeling_sign_motion.py" in files(hub, "lslm/tokenizer")
    out = hub.forks.run(["data", "push", toy / "set", "lslm/data", "--license", "mit", "--private"]).stdout
    assert 'it works: {"train": "Some tea and if you please."' in out
    assert {"README.md", "data/train.parquet", "data/test.parquet"} <= files(hub, "lslm/data", repo_type="dataset")


def test_what_else_a_repository_holds_stays(published, toy, toy_tokenizer, clip):
    """Only weights and shards that would be read beside what is sent go, and each is named."""
    hub, _, _ = published
    mine = {"train.py", "scripts/prepare.py", "other/model.safetensors", "extra/a.parquet", "data/more-train.parquet"}
    old = {"model": "model-00001-of-00002.safetensors", "dataset": "data/train-00000.parquet"}
    for kind, gone in old.items():
        hub.forks.run(f"""
import huggingface_hub as h
h.create_repo("lslm/busy", repo_type={kind!r})
operations = [h.CommitOperationAdd(name, name.encode()) for name in {["README.md", gone, *mine]}]
h.create_commit("lslm/busy", operations, commit_message="mine", repo_type={kind!r})
""")
        before = hub.repos[f"{kind}s/lslm/busy"]["branches"]["main"]
        send = ["publish", toy_tokenizer, "--clip", clip] if kind == "model" else ["data", "push", toy / "set"]
        out = hub.forks.run([*send, "lslm/busy", "--license", "mit"]).stdout
        assert mine <= files(hub, "lslm/busy", repo_type=kind) and gone not in files(hub, "lslm/busy", repo_type=kind)
        assert re.findall("deleted +(.*)", out) == [gone] and f"README.md is replaced; before: {before}" in out


def test_another_kind_of_model_is_not_replaced(published, toy_tokenizer, clip):
    hub, _, _ = published
    argv = ["publish", toy_tokenizer, NAME, "--license", "mit", "--clip", clip, "--revision", "codes"]
    done = hub.forks.run(argv, check=False)
    said = f"{NAME} holds a model of type 'lslm', which would be replaced by one of type 'sign_motion_vqvae'"
    assert done.returncode == 2 and said in done.stderr.splitlines()[-1]
    assert "codes" not in hub.repos[f"models/{NAME}"]["branches"]


def test_of_two_pushes_at_once_the_later_is_refused(published, toy):
    hub, _, _ = published
    push = ["data", "push", str(toy / "set"), "lslm/both", "--license", "mit"]
    hub.forks.run(push)
    done = hub.forks.run(
        f"""
import sys, huggingface_hub as h, lslm_cli
upload = h.HfApi.upload_folder
def late(api, **what):
    add = [h.CommitOperationAdd("data/train-00001.parquet", b"theirs")]
    api.create_commit("lslm/both", add, commit_message="theirs", repo_type="dataset")
    return upload(api, **what)
h.HfApi.upload_folder = late
sys.exit(lslm_cli.main({[*push[:-1], "cc-by-4.0"]!r}))
""",
        check=False,
    )
    assert done.returncode == 2 and "A commit has happened since" in done.stderr.splitlines()[-1]


def test_a_push_completes_the_card_of_a_build_and_keeps_what_the_user_wrote(published, toy, tmp_path, capsys):
    hub, _, _ = published
    folder = shutil.copytree(toy / "set", tmp_path / "wetter")
    data = SignData("wetter", language=["de", "gsg"], splits={"train": 8})
    built = dataset_card("OWNER/wetter", data).replace("## Quick start", "Mine: a --- b.\n\n## Quick start")
    (folder / "README.md").write_text(built)
    hub.forks.run(["data", "push", folder, "lslm/wetter", "--license", "cc-by-nc-4.0"])
    card = (folder / "README.md").read_text()
    assert "Mine: a --- b." in card and "| licence | `cc-by-nc-4.0` |" in card and "not stated yet" not in card
    before, after = (yaml.safe_load(text.split("---\n")[1]) for text in (built, card))
    assert after == before | {"license": "cc-by-nc-4.0"}
    api = HfApi(endpoint=hub.url, token="hf_test")
    sent = Path(api.hf_hub_download("lslm/wetter", "README.md", repo_type="dataset", local_dir=tmp_path)).read_text()
    assert sent == card.replace("OWNER/wetter", "lslm/wetter") and 'load_dataset("lslm/wetter"' in sent
    assert lslm_cli.main(["data", "push", str(folder), "lslm/wetter", "--license", "mit", "--dry-run"]) == 2
    assert "says license: cc-by-nc-4.0, and --license mit" in capsys.readouterr().err
    (folder / "README.md").write_text("# All mine\n\nWords.\n")
    assert lslm_cli.main(["data", "push", str(folder), "lslm/wetter", "--license", "mit", "--dry-run"]) == 0
    assert "---\nlicense: mit\n---\n\n# All mine\n\nWords.\n" in capsys.readouterr().out
    assert (folder / "README.md").read_text() == "# All mine\n\nWords.\n"


def test_licence_files_of_a_base_on_the_hub_go_along(tmp_path, monkeypatch):
    """What they say decides, whatever the base is called; and none is asked for where the licence wants none."""
    (tmp_path / "base").mkdir()
    (tmp_path / "base" / "LICENSE").write_text("Qwen RESEARCH LICENSE AGREEMENT\n")
    (tmp_path / "base" / "model.py").touch()
    monkeypatch.setattr(publishing, "snapshot_download", lambda repo_id, allow_patterns: str(tmp_path / "base"))
    for name, source, license in (("a", "me/tuned", "qwen-research"), ("b", BASE[1], None)):
        (out := tmp_path / name).mkdir()
        terms = publishing._copy_licenses(str(out), source, source, None, out)
        assert terms is not None and terms.name == license
        assert [path.name for path in out.rglob("*") if path.is_file()] == ["LICENSE"] * (name == "a")


@pytest.mark.skipif("ENDPOINT" not in inspect.getsource(RepoCard.validate), reason="it asks huggingface.co alone")
def test_a_card_that_the_hub_does_not_take_is_not_sent(published, toy):
    hub, _, _ = published
    done = hub.forks.run(["data", "push", toy / "set", "lslm/refused", "--license", "smpl-x"], check=False)
    assert done.returncode == 2 and '"license" must be one of' in done.stderr.replace("\\", "").splitlines()[-1]
    assert hub.requests[-1].path == "/api/validate-yaml" and "datasets/lslm/refused" not in hub.repos


def test_a_card_is_not_checked_where_nobody_answers(published, toy):
    hub, _, _ = published
    argv = ["data", "push", str(toy / "set"), "lslm/unchecked", "--license", "mit"]
    done = hub.forks.run(f"""
import sys, huggingface_hub, lslm_cli
unanswered = huggingface_hub.get_session().get
huggingface_hub.RepoCard.validate = lambda *_: unanswered("http://127.0.0.1:9")
sys.exit(lslm_cli.main({argv!r}))
""")
    assert "the card was not checked: nobody answers" in done.stdout and "it works" in done.stdout


def test_a_stage_pushes_by_itself(published, toy, toy_align, clip, tmp_path):
    """`--push_to_hub` of the Trainer: what arrives can be loaded as it is."""
    hub, _, _ = published
    flags = {"max_steps": 1, "output_dir": tmp_path / "run", "push_to_hub": "true", "hub_model_id": "lslm/pushed"}
    hub.forks.run(["align", *recipe(**toy_align | flags)])
    assert {"model.safetensors", "modeling_lslm.py", "processing_lslm.py", "stages.yaml"} <= files(hub, "lslm/pushed")
    flags = TOY_VQVAE | {"data": toy / "set", "max_steps": 1, "output_dir": tmp_path / "codes"}
    flags |= {"push_to_hub": "true", "hub_model_id": "lslm/pushed-codes"}
    hub.forks.run(["tokenizer", *recipe(**flags)])
    assert {"model.safetensors", "modeling_sign_motion.py", "stages.yaml"} <= files(hub, "lslm/pushed-codes")
    code = "from transformers import pipeline\npipeline(model='lslm/pushed', trust_remote_code=True)"
    run_client(hub, f"{STRANGER}{code}({str(clip)!r})", PYTHONPATH="")


def test_a_stage_takes_hub_ids_wherever_a_folder_goes(published, toy, toy_align, toy_tokenizer, tmp_path):
    """Data with their statistics, the model before, the scores; and stages.yaml says the same as of folders."""
    hub, _, _ = published
    shutil.copytree(toy / "set", tmp_path / "set")
    stored = {"fps": 15.0, "convention": "humanml3d", "target_skeleton": "humanml3d", "mean": [0.5] * 623}
    (tmp_path / "set" / "statistics.json").write_text(json.dumps(stored | {"std": [2.0] * 623}))
    hub.forks.run(["data", "push", tmp_path / "set", "lslm/set", "--license", "mit"])
    upload = f"create_repo('lslm/codes'); api.upload_folder(repo_id='lslm/codes', folder_path={str(toy_tokenizer)!r})"
    hub.forks.run(f"from huggingface_hub import HfApi; api = HfApi(); api.{upload}")
    flags = {"data": "lslm/set", "stream": "true", "max_steps": 1, "output_dir": tmp_path / "codes"}
    hub.forks.run(["tokenizer", *recipe(**TOY_VQVAE | flags)])
    assert SignMotionFeatureExtractor.from_pretrained(tmp_path / "codes").mean == [0.5] * 623
    used = []
    for name, data, tokenizer in (("here", tmp_path / "set", toy_tokenizer), ("there", "lslm/set", "lslm/codes")):
        places = {"data": data, "tokenizer": tokenizer, "output_dir": tmp_path / name, "max_steps": 1}
        hub.forks.run(["align", *recipe(**toy_align | places)])
        stages = yaml.safe_load((tmp_path / name / "stages.yaml").read_text())
        used.append(stages["align"]["used"])
        assert list(stages) == ["tokenizer", "align", "made_with"]
    assert used[0] == used[1] and {"data", "tokenizer", "backbone", "templates"} <= used[0].keys()
    again = hub.forks.run(["align", *recipe(**toy_align | places | {"data": tmp_path / "set"})])
    assert "finished, and left as it is" in again.stdout  # the same data
    command = ["evaluate", "--data", "lslm/set", "--split", "test", "--model", str(tmp_path / "there"), "--limit", "1"]
    hub.forks.run([*command, "--output", tmp_path / "scores"])
    hub.forks.run([*command[:6], "lslm/codes", "--limit", "1", "--output", tmp_path / "of_codes"])
    scores = [json.loads((tmp_path / name / "results.json").read_text()) for name in ("scores", "of_codes")]
    assert [score.get("model_revision") for score in scores] == [
        None,
        hub.repos["models/lslm/codes"]["branches"]["main"],
    ]
    nowhere = hub.forks.run(["tokenizer", *recipe(**TOY_VQVAE | flags | {"data": "lslm/nowhere"})], check=False)
    assert nowhere.returncode == 2 and "no data set at lslm/nowhere: expected a folder" in nowhere.stderr


def test_a_data_set_given_by_its_id_speaks_as_its_card_does(published, toy, toy_align, tmp_path):
    """Prompts, stages.yaml, scores and the model's card: as of a folder with the same README.md."""
    hub, _, _ = published
    folder = shutil.copytree(toy / "set", tmp_path / "wetter")
    data = SignData("Wetter", "cc-by-nc-4.0", language=["de", "gsg"], splits={"train": 8})
    (folder / "README.md").write_text(dataset_card("OWNER/wetter", data))
    upload = f"upload_folder(repo_id='lslm/by-id', repo_type='dataset', folder_path={str(folder)!r})"
    create = "create_repo('lslm/by-id', repo_type='dataset')"
    hub.forks.run(f"import huggingface_hub as h; h.{create}; h.{upload}")
    out, home = tmp_path / "align", {"HF_HOME": str(tmp_path / "home")}
    flags = toy_align | {"data": "lslm/by-id", "output_dir": out, "max_steps": 1}
    done = hub.forks.run(["align", *recipe(**flags)], **home)
    assert "has no README.md" not in done.stdout
    config = json.loads((out / "config.json").read_text())
    assert config["languages"] == {"signed": {"gsg": "German Sign Language"}, "written": {"de": "German"}}
    revision = hub.repos["datasets/lslm/by-id"]["branches"]["main"]
    stated = {"pretty_name": "Wetter", "license": "cc-by-nc-4.0", "language": ["de", "gsg"], "revision": revision}
    assert yaml.safe_load((out / "stages.yaml").read_text())["made_with"]["data_set"] == stated
    scores = ["evaluate", "--data", "lslm/by-id", "--split", "test", "--model", out, "--report_clips", "0"]
    hub.forks.run([*scores, "--output", tmp_path / "scores"], **home)
    assert json.loads((tmp_path / "scores" / "results.json").read_text())["data_revision"] == revision
    publish = ["publish", out, "lslm/german", *BASE, "--dry-run"]
    card = hub.forks.run(publish, **home).stdout
    for fact in (
        "datasets:\n- lslm/by-id\n",
        "- gsg\n",
        "license: cc-by-nc-4.0\n",
        "type: lslm/by-id\n",
        "Data: Wetter (German Sign Language, German), 8 sentences",
        " of the test split of Wetter.\n",
        "- Data: [Wetter](https://huggingface.co/datasets/lslm/by-id), `cc-by-nc-4.0`.",
    ):
        assert fact in card, fact
    assert not re.search(r"\b(ASL|ase|American|en)\b", card.partition("\n---\n")[2])
    argv = [str(part) for part in publish]
    offline = "import sys, huggingface_hub, lslm_cli; huggingface_hub.constants.HF_HUB_OFFLINE = True"
    away = hub.forks.run(f"{offline}\nsys.exit(lslm_cli.main({argv}))").stdout
    assert "the card says of the data what the model's files say" in away and "German Sign Language" in away


def test_a_process_stays_with_the_commit_that_it_began_with(published, toy):
    """A data set that changes while it is used: files, card and what is recorded are of one commit."""
    hub, _, _ = published
    hub.forks.run(["data", "push", toy / "set", "lslm/moving", "--license", "mit"])
    hub.forks.run("""
import huggingface_hub as h
from lslm.hub_cards.data_sets import data_card, data_folder, data_revision

folder, card = data_folder("lslm/moving", "train"), data_card("lslm/moving")
add = {"repo_type": "dataset", "path_or_fileobj": b"other", "repo_id": "lslm/moving"}
for name in ("README.md", "data/train.parquet", "data/test.parquet"):
    h.upload_file(path_in_repo=name, **add)
assert data_folder("lslm/moving", "train") == data_folder("lslm/moving", "test") == folder
assert data_revision("lslm/moving", "test") == folder.name and data_card("lslm/moving") == card
""")


def test_a_card_that_cannot_be_read_is_not_taken_for_none(published):
    """Where the Hub is not reached, its cache serves, also with what is known not to be there; else it is an error."""
    hub, _, _ = published
    hub.forks.run("""
import sys
from pathlib import Path
import huggingface_hub as h, pytest
from huggingface_hub import constants
from lslm.hub_cards.languages import languages_of, read_metadata

for name in ("lslm/carded", "lslm/bare"):
    h.create_repo(name, repo_type="dataset")
card = b"---\\nlanguage: [de, gsg]\\n---\\n"
h.upload_file(repo_id="lslm/carded", repo_type="dataset", path_in_repo="README.md", path_or_fileobj=card)
with pytest.raises(FileNotFoundError, match="the data set lslm/nowhere can be read neither"):
    languages_of("lslm/nowhere")
for constants.HF_HUB_OFFLINE in (False, True):
    assert languages_of("lslm/carded")["written"] == {"de": "German"} and read_metadata("lslm/bare") == {}
constants.HF_HUB_CACHE += "-empty"
for name in ("lslm/carded", "lslm/bare"):
    with pytest.raises(FileNotFoundError, match=f"{name} .* languages and its licence are not known; go online"):
        languages_of(name)
""")


def test_a_dry_run_sends_nothing(published, toy_aligned, clip):
    hub, _, _ = published
    before = len(hub.requests)
    done = hub.forks.run(["publish", toy_aligned, "lslm/dry", "--clip", clip, *BASE, "--dry-run"])
    assert "nothing was sent" in done.stdout and "# dry" in done.stdout and len(hub.requests) == before


def test_scores_of_another_stage_are_not_told(toy_aligned, clip, tmp_path, capsys):
    shutil.copytree(toy_aligned, tmp_path / "2_align", ignore=shutil.ignore_patterns("checkpoint-*"))
    scores = {"metrics": {"wer": 12.5, "utterances": 4}, "split": "test", "model": str(tmp_path / "3_instruct")}
    (tmp_path / "scores").mkdir()
    (tmp_path / "scores" / "results.json").write_text(json.dumps(scores))
    argv = ["publish", str(tmp_path / "2_align"), "lslm/x", "--clip", str(clip), *BASE, "--dry-run"]
    assert lslm_cli.main(argv) == 0
    out = capsys.readouterr().out
    assert "12.5" not in out and "no scores for the card" in out
    assert lslm_cli.main([*argv, "--results", str(tmp_path / "scores" / "results.json")]) == 0
    assert "12.5" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["publish", "nowhere", "lslm/x"], "nowhere is not a checkpoint"),
        (["publish", "{toy}/llm", "lslm/x"], "a model of type 'llama', expected lslm"),
        (["publish", "{aligned}", "lslm/x"], "give --base-model"),
        (["publish", "{aligned}", "not a name"], "Repo id"),
        (["publish", "{aligned}", "lslm/x", "--base-model", "a/b"], "licence"),
        (["publish", "{aligned}", "lslm/x", "--clip", "no.npz"], "no.npz"),
        (["publish", "{aligned}", "lslm/x", "--results", "no.json"], "no.json"),
        (["publish", "{model}", "lslm/x", *BASE, "--adapter-only"], "is not a LoRA adapter"),
        (["publish", "{aligned}", "lslm/x", *BASE, "--adapter-only"], "a folder of this machine"),
        (["data", "push", "{toy}/llm", "lslm/x"], "is not a data set"),
        (["data", "push", "{toy}/set", "lslm/x"], "give --license"),
    ],
)
def test_what_cannot_be_published_is_one_line(toy, toy_aligned, toy_model, clip, capsys, argv, said):
    argv = [word.format(toy=toy, aligned=toy_aligned, model=toy_model) for word in argv]
    argv += ["--dry-run"] + ([] if argv[0] == "data" or "--clip" in argv else ["--clip", str(clip)])
    assert lslm_cli.main(argv) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("lslm: ") and said in error
