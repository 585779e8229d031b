"""Rare words letter by letter, and a projector that learns what is signed before the language model comes in."""

import lslm_cli
import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from training_fixtures import TOY_ALIGN, recipe

from lslm.processing import SignMotionProcessor
from lslm.processing.processing_lslm import CUT
from lslm.training.dataset import spelling
from lslm.training.dataset.collators import TranslationCollator
from lslm.training.dataset.encodings import cached_codes
from lslm.training.dataset.motion_text import MotionText, read_texts
from lslm.training.dataset.spelling import rare_words, signs, spelled
from lslm.training.stages import align, translation
from lslm.training.stages.projector_start import start_projector

pytest_plugins = ["training_fixtures"]


def test_rare_words_are_those_that_few_texts_have():
    texts = ["Tea for Émile, Émile and Émile."] + ["Tea, I said."] * spelling.RARE + ["x9 and o'clock"]
    assert rare_words(texts) == {"for", "émile", "and", "x9", "clock"}  # letters are letters already
    assert rare_words([]) == set()


def test_spelled_text_is_the_same_text():
    rare = {"emma", "al"}
    said = spelled("Emma, a tea for EMMA and Al. Also alone.", rare)
    assert said == "E|m|m|a, a tea for E|M|M|A and A|l. Also alone.".replace("|", CUT)
    assert said.replace(CUT, "") == "Emma, a tea for EMMA and Al. Also alone."
    assert signs("Emma, a tea for Al.", rare) == ["e", "m", "m", "a", " a", " tea", " for", "a", "l"]


def test_the_collator_spells_the_words_it_was_given(toy_model):
    processor = SignMotionProcessor.from_pretrained(toy_model)
    item = {"text": "Some tea.", "codes": [[1], [2]], "rng": np.random.default_rng(0)}

    def learnt(words):
        batch = TranslationCollator(processor, ["<motion>"], words)([item])
        return [token for token in batch["labels"][0].tolist() if token != -100]

    whole, letters = learnt(()), learnt({"tea"})
    assert processor.decode(whole) == processor.decode(letters) == "Some tea."
    text = processor.tokenizer.convert_ids_to_tokens
    assert text(letters)[-5:-2] == ["t", "e", "a"] and len(whole) < len(letters)


def test_rare_words_of_the_training_texts_are_spelled(toy, toy_tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr(spelling, "RARE", 3)
    assert read_texts(str(toy / "set"), "test") == list(MotionText(str(toy / "set"), "test", 15.0).texts)
    collators = []

    class Collator(TranslationCollator):
        def __init__(self, *args):
            super().__init__(*args)
            collators.append(self)

    monkeypatch.setattr(translation, "TranslationCollator", Collator)
    flags = {"data": toy / "set", "tokenizer": toy_tokenizer, "backbone": toy / "llm", "max_steps": 1}
    for name, more, expected in (("whole", {}, set()), ("spelled", {"spell_rare_words": True}, {"am", "al"})):
        assert lslm_cli.main(["align", *recipe(**TOY_ALIGN | flags | more, output_dir=tmp_path / name)]) == 0
        assert set(collators[-1].spelled_words) == expected


@pytest.mark.parametrize("codes_per_embedding", [1, 2])
def test_the_projector_learns_what_is_signed_without_the_language_model(toy, fresh, monkeypatch, codes_per_embedding):
    monkeypatch.setattr(spelling, "RARE", 3)
    model, processor = fresh(codes_per_embedding)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    data = MotionText(str(toy / "set"), "train", 15.0)
    codes = cached_codes(model.model.vqvae, processor.feature_extractor, data.joints)
    first, last = (start_projector(model, processor, codes, data.texts, steps, seed=0) for steps in (10, 150))
    assert last < 0.6 * first
    moved = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert moved == {name for name in before if ".projector." in name} and len(moved) == 4
    assert all(weight.grad is None for weight in model.parameters())
    motion = torch.cat([model.model.get_motion_embeds(motion_codes=torch.tensor(clip)[None]) for clip in codes])
    torch.testing.assert_close(motion.std(), model.get_input_embeddings().weight.std(), rtol=0.3, atol=0)


def test_the_projectors_start_sees_each_clip_in_as_many_variations_as_the_recipe_says(
    toy, toy_tokenizer, tmp_path, monkeypatch
):
    seen = []

    def start_projector(model, processor, codes, texts, **options):
        seen.append((codes, texts))
        raise KeyboardInterrupt

    monkeypatch.setattr(align, "start_projector", start_projector)
    flags = {"data": toy / "set", "tokenizer": toy_tokenizer, "backbone": toy / "llm", "ctc_steps": 1}
    for augment, times in ((True, 3), (False, 1)):
        lslm_cli.main(["align", *recipe(**TOY_ALIGN | flags, output_dir=tmp_path, augment=augment, ctc_variations=3)])
        codes, texts = seen.pop()
        clips = len(texts) // times
        assert len(codes) == len(texts) and texts == texts[:clips] * times
        assert len(set(texts[:clips])) > 1
        if augment:
            assert any(not np.array_equal(codes[i], codes[i + clips]) for i in range(clips))


def test_a_kill_before_the_first_checkpoint_keeps_the_started_projector(toy, toy_tokenizer, tmp_path, monkeypatch):
    def run(out, **more):
        flags = {"data": toy / "set", "tokenizer": toy_tokenizer, "backbone": toy / "llm", "output_dir": out}
        flags |= {"ctc_steps": 4, "max_steps": 2, "code_dropout": 0.3, "save_strategy": "no"}
        lslm_cli.main(["align", *recipe(**TOY_ALIGN | flags | more)])
        return load_file(out / "model.safetensors") if (out / "model.safetensors").is_file() else None

    def stop(self, *args, **kwargs):
        raise KeyboardInterrupt

    whole = run(tmp_path / "whole")
    killed = tmp_path / "killed"
    with monkeypatch.context() as patch:
        patch.setattr(translation.TranslationTrainer, "compute_loss", stop)
        assert run(killed) is None and (killed / translation.STARTED).is_file()
    counted = []
    monkeypatch.setattr(
        align, "start_projector", lambda *args, **options: counted.append(start_projector(*args, **options))
    )
    ended = run(killed)
    assert not counted and not (killed / translation.STARTED).exists()
    assert ended.keys() == whole.keys() and all(torch.equal(ended[name], whole[name]) for name in whole)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / translation.STARTED).write_bytes(b"no tensors")
    assert run(tmp_path / "other") is not None and len(counted) == 1  # another recipe, or a damaged file: anew


def test_a_run_starts_the_projector_once(toy, toy_tokenizer, tmp_path, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(align, "start_projector", lambda *args, **options: started.append(options))
    flags = {"data": toy / "set", "tokenizer": toy_tokenizer, "backbone": toy / "llm", "output_dir": tmp_path / "out"}
    flags |= {"ctc_steps": 7, "ctc_batch_size": 5, "ctc_learning_rate": 0.5, "ctc_code_dropout": 0.25, "seed": 3}
    expected = {"steps": 7, "seed": 3, "bf16": False, "batch_size": 5, "learning_rate": 0.5, "code_dropout": 0.25}
    flags |= {"max_steps": 2, "save_strategy": "steps", "save_steps": 1}
    for _ in range(2):  # the second time there is a checkpoint
        assert lslm_cli.main(["align", *recipe(**TOY_ALIGN | flags)]) == 0
        assert started == [expected]
    for more in ({"stream": True}, {"motion_input": "vocabulary"}, {"trainable": "language_model"}):
        assert lslm_cli.main(["align", *recipe(**TOY_ALIGN | flags | more)]) == 2
        assert "ctc_steps start a projector" in capsys.readouterr().err
