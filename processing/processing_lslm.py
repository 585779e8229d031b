"""Motion and text to model input, and codes and token ids back to motion and text."""

import re
import tempfile
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlparse
from urllib.request import urlopen

import numpy as np
import torch
from transformers import AddedToken, BatchFeature, ProcessorMixin

from .array_files import MAX_BYTES
from .feature_extraction_lslm import pad_rows, padded_size
from .motion_errors import MotionFileError

if TYPE_CHECKING:
    # Never imported at run time: saving follows relative imports, so this line makes a checkpoint carry the pipeline
    from .pipeline_lslm import SignTranslationPipeline  # noqa: F401

# In this order, which gives `<motion>` the ids of the paper's Table 9: 128259 with Llama 3, 151668 with Qwen2.5.
MOTION_TOKENS = ("<motion_start>", "<motion_end>", "<motion_pad>", "<motion>")
MOTION = "<motion>"
PADDING = ("padding", "max_length", "truncation", "padding_side", "pad_to_multiple_of")
CUT = "\u2063"  # in an answer: a token ends here, whatever the tokenizer would join. Nothing of it is in the tokens
# Llama 3.2 would write today's date into every prompt: training and use must see the same one
DATE = "26 Jul 2024"
DEFAULT_PROMPT = "Translate the American Sign Language in <motion> into English."

# For language models that come without a chat template
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _as_dict(message) -> dict:
    """A chat message, or a block of its content, as a dict of the fields that are set."""
    if is_dataclass(message):
        message = {field.name: getattr(message, field.name) for field in fields(message)}
    elif hasattr(message, "model_dump"):  # pydantic, as OpenAI's client has them; iterated, a clip in it stays as it is
        message = dict(message) if hasattr(message, "__iter__") else message.model_dump()
    if not isinstance(message, dict):
        raise ValueError(f"a chat message is a dict, a dataclass or a pydantic model, not {message!r}")
    return {key: value for key, value in message.items() if value is not None}


class SignMotionProcessor(ProcessorMixin):
    """Feature extractor and tokenizer of an LSLM checkpoint; with `attach`, its sign tokenizer as well.

    In a prompt, `<motion>` stands for a clip. It becomes `<motion_start>`, one `<motion>` per motion embedding,
    `<motion_end>`.

    Args:
        feature_extractor: a `SignMotionFeatureExtractor`.
        tokenizer: that of the language model; the four motion tokens are added to it if they are missing.
        chat_template: None takes the tokenizer's own.
        prompt: the user's message when none is given.
        system_prompt: the system message; None leaves it to the chat template.
        codes_per_embedding: as in the model's configuration.
    """

    _auto_class = "AutoProcessor"  # checkpoints carry the code

    def __init__(
        self,
        feature_extractor,
        tokenizer,
        chat_template=None,
        prompt: str = DEFAULT_PROMPT,
        system_prompt: str | None = None,
        codes_per_embedding: int = 1,
    ):
        tokens = [AddedToken(token, special=True, normalized=False) for token in MOTION_TOKENS]
        tokenizer.add_tokens(tokens, special_tokens=True)
        if tokenizer.pad_token is None:
            tokenizer.pad_token = "<motion_pad>"
        # generation continues at the right; also for whoever loads the tokenizer alone
        tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "left"
        self.motion_token = MOTION
        self.motion_token_id = tokenizer.convert_tokens_to_ids(MOTION)
        self.prompt = prompt
        self.system_prompt = system_prompt
        self.codes_per_embedding = codes_per_embedding
        self.vqvae = None
        template = chat_template or getattr(tokenizer, "chat_template", None) or CHATML
        super().__init__(feature_extractor, tokenizer, chat_template=template)

    model_input_names = ["input_ids", "attention_mask", "input_features", "input_features_mask"]

    def to_dict(self, *args, **kwargs):
        output = super().to_dict(*args, **kwargs)
        for name in ("vqvae", "motion_token", "motion_token_id"):  # follow from the rest, or have a file of their own
            output.pop(name, None)
        return output

    def __call__(
        self,
        text: str | list[str] | None = None,
        motion=None,
        motion_codes=None,
        answer: str | list[str] | None = None,
        fps: float | None = None,
        return_tensors: str | None = "pt",
        **padding,
    ) -> BatchFeature:
        """Prompts with motion to model input.

        Args:
            text: one user message per prompt, each with a `<motion>` for each of its clips; None: `self.prompt` for
                every clip. It is put through the chat template.
            motion: a clip in any form that `SignMotionFeatureExtractor` takes, a list of clips in the order of the
                placeholders, or what the feature extractor made of them; or
            motion_codes: (L, C) int codes of a clip, a list of them, or the `MotionEncoding` of clips.
            answer: what the model is to say; gives `labels`, which are -100 everywhere but on the answer and its end.
            fps: frame rate of clips that are arrays.
            padding: of the prompts: `padding`, `max_length`, `truncation`, `padding_side` and `pad_to_multiple_of` as
                tokenizers take them, in tokens with motion and answer. Left by default, since generation goes on at the
                right. With `truncation` what is too long is refused: a prompt cannot be cut where its motion stands.

        Returns:
            `input_ids`, `attention_mask` (B, S), `input_features` (N, T, 623) with `input_features_mask`, or
            `motion_codes` (N, L, C) and `motion_latents` (N, L, D) where they are known, and with `answer` `labels`
            (B, S). Padded at the left (prompts) and right (motion).

        Raises:
            ValueError: the number of placeholders differs from the number of clips; a prompt is too long.
            TypeError: an unknown keyword.
        """
        inputs, lengths = self._motion_inputs(motion, motion_codes, fps)
        texts = [self.prompt] * len(lengths) if text is None else [text] if isinstance(text, str) else list(text)
        if not texts:
            raise ValueError("nothing to read: pass text, motion or motion_codes")
        conversations = [[{"role": "user", "content": t}] for t in texts]
        if answer is not None:
            answers = [answer] if isinstance(answer, str) else answer
            if len(answers) != len(texts):
                raise ValueError(f"{len(texts)} prompts but {len(answers)} answers")
            for conversation, a in zip(conversations, answers, strict=True):
                conversation.append({"role": "assistant", "content": a})
        prompts, endings = self._texts(conversations, answer is not None)
        return self._encode(prompts, endings, inputs, lengths, return_tensors, **padding)

    def apply_chat_template(
        self,
        conversation,
        chat_template: str | None = None,
        tokenize: bool = False,
        return_dict: bool = False,
        return_labels: bool = False,
        add_generation_prompt: bool | None = None,
        continue_final_message: bool = False,
        fps: float | None = None,
        return_tensors: str | None = "pt",
        **kwargs,
    ):
        """Chat messages with motion to model input.

        A message's content is a string, or a list of blocks `{"type": "text", "text": ...}` and `{"type": "motion",
        "motion": clip}` (or `"path": file`, `"url": address`, or `"motion_codes": codes`).

        Args:
            conversation: messages, or a list of conversations. A message and a block of its content are dicts, data
                classes or pydantic models; what has `messages` is a conversation.
            tokenize: False gives the rendered text, with one `<motion>` per clip.
            return_labels: learn the last message, which must be the assistant's.
            add_generation_prompt: end with the beginning of an answer; None: where the last message is not one.
            continue_final_message: the model is to go on with the last message.
            kwargs: padding as in [`__call__`], and what the chat template itself reads (`tools`, `date_string`, ...).

        Raises:
            TypeError: a keyword that neither this method nor the chat template knows.
            ValueError: what came cannot be read as messages with motion.
        """
        template = self.tokenizer.get_chat_template(chat_template or self.chat_template)
        padding = {name: kwargs.pop(name) for name in PADDING if name in kwargs}
        kwargs = {name: value for name, value in kwargs.items() if value is not None}  # tools=None says nothing
        for name in kwargs:
            if name == "messages" or not re.search(rf"\b{name}\b", template):
                raise TypeError(f"apply_chat_template got {name!r}, which neither it nor the chat template knows")
        options = kwargs | {"chat_template": template, "continue_final_message": continue_final_message}
        items = list(getattr(conversation, "messages", conversation))
        if not items:
            raise ValueError("no chat messages came; expected a list of them, or of conversations")
        several = isinstance(items[0], (list, tuple)) or hasattr(items[0], "messages")
        clips, codes, flat = [], [], []
        for messages in items if several else [items]:
            messages = [_as_dict(message) for message in getattr(messages, "messages", messages)]
            flat.append([{**m, "content": self._flatten(m.get("content", ""), clips, codes)} for m in messages])
        prompts, answers = self._texts(flat, return_labels and tokenize, add_generation_prompt, **options)
        if not tokenize:
            return prompts if several else prompts[0]
        clips = [self._fetch(clip["url"], fps) if isinstance(clip, dict) else clip for clip in clips]
        inputs, lengths = self._motion_inputs(clips or None, codes or None, fps)
        batch = self._encode(prompts, answers, inputs, lengths, return_tensors, **padding)
        return batch if return_dict else batch["input_ids"]

    @staticmethod
    def _flatten(content, clips: list, codes: list) -> str:
        """Content blocks to a string with placeholders; the motion goes to `clips` and `codes`."""
        if isinstance(content, str):
            return content
        parts = []
        for block in map(_as_dict, content):
            kind = block.get("type")
            if kind == "text":
                parts.append(block["text"])
            elif kind == "motion":
                forms = [name for name in ("motion", "path", "url", "motion_codes") if name in block]
                if len(forms) != 1:
                    raise ValueError(f"a motion block has motion, path, url or motion_codes; this one: {sorted(block)}")
                clip = {"url": block["url"]} if forms == ["url"] else block[forms[0]]
                (codes if forms == ["motion_codes"] else clips).append(clip)
                parts.append(MOTION)
            else:
                raise ValueError(f"a message block is 'text' or 'motion', not {kind!r}")
        return " ".join(parts)

    def _fetch(self, url: str, fps: float | None):
        """The motion file at an http(s) address as a `Motion`."""
        if not url.lower().startswith(("https://", "http://")):
            raise ValueError(f'a url begins with https:// or http://, not {url[:40]!r}; a file is "path"')
        try:
            with tempfile.TemporaryDirectory() as folder, urlopen(url, timeout=60) as answer:
                file = Path(folder, "motion" + Path(urlparse(url).path).suffix)
                file.write_bytes(answer.read(MAX_BYTES + 1))  # one more: the reader refuses what is too large
                return self.feature_extractor.load(file, fps)
        except MotionFileError as error:
            raise MotionFileError.of(url, error) from error
        except OSError as error:
            raise OSError(f"{url}: {error}") from error

    def _render(self, messages: list[dict], add_generation_prompt: bool, **options) -> str:
        if self.system_prompt is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.system_prompt}, *messages]
        return self.tokenizer.apply_chat_template(
            messages,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            **{"chat_template": self.chat_template, "date_string": DATE, **options},
        )

    def _motion_inputs(self, motion, motion_codes, fps) -> tuple[dict[str, np.ndarray], list[int]]:
        """Motion in any form to padded arrays, and the number of codes of each clip."""
        if motion is not None and motion_codes is not None:
            raise ValueError("pass motion or motion_codes, not both")
        if motion is not None:
            inputs = dict(self.feature_extractor(motion, fps=fps, return_tensors="np"))
            inputs.setdefault("input_features_mask", np.ones(np.shape(inputs["input_features"])[:2], np.int64))
            return inputs, [self.feature_extractor.num_codes(int(n)) for n in inputs["input_features_mask"].sum(-1)]
        if motion_codes is None:
            return {}, []
        if hasattr(motion_codes, "inputs"):  # a MotionEncoding
            inputs = {name: tensor.cpu().numpy() for name, tensor in motion_codes.inputs().items()}
            return inputs, motion_codes.lengths.tolist()
        if not len(motion_codes):
            raise ValueError("no codes to read: the list is empty")
        one = np.asarray(motion_codes[0], object).ndim == 1  # as objects, lists of different lengths are no error
        clips = [np.asarray(clip, object) for clip in ([motion_codes] if one else motion_codes)]
        if any(clip.ndim != 2 or clip.shape[1] != clips[0].shape[1] for clip in clips):
            raise ValueError("codes of a clip are (length, codebooks); expected those, or a list of them")
        # a batch of the sign tokenizer is padded with -100
        clips = [clip[clip[:, 0] >= 0].astype(np.int64) for clip in clips]
        lengths = [len(clip) for clip in clips]
        if not all(lengths):
            raise ValueError("a clip has no codes")
        return {"motion_codes": pad_rows(clips, max(lengths), -100)}, lengths

    def _texts(self, conversations, labels: bool, add_generation_prompt: bool | None = None, **options):
        """Conversations as prompts; with `labels`, the last messages apart, as the answers to learn."""
        prompts, answers = [], []
        for messages in conversations:
            ends_with_answer = messages[-1]["role"] == "assistant"
            if not labels:
                add = add_generation_prompt
                if add is None:
                    add = not ends_with_answer and not options.get("continue_final_message")
                prompts.append(self._render(messages, add, **options))
                continue
            if not ends_with_answer:
                raise ValueError("labels are for the last message, which must be the assistant's")
            prompt = self._render(messages[:-1], True, **options)
            whole = self._render(messages, False, **options)
            if not whole.startswith(prompt):
                raise ValueError("no labels: this chat template changes the prompt when the answer follows")
            prompts.append(prompt)
            answers.append(whole[len(prompt) :].rstrip())  # nothing is said after the end-of-turn token
        return prompts, answers if labels else None

    def _encode(self, prompts, answers, inputs, lengths, return_tensors, **padding) -> BatchFeature:
        """Prompts, and maybe answers, with clips of so many codes."""
        count = sum(prompt.count(MOTION) for prompt in prompts)
        if count != len(lengths):
            raise ValueError(f"the prompts hold {count} {MOTION} placeholder(s), but {len(lengths)} clip(s) came")
        expanded = (f"<motion_start>{MOTION * self.num_embeddings(length)}<motion_end>" for length in lengths)
        prompts = [re.sub(MOTION, lambda _: next(expanded), prompt) for prompt in prompts]
        return BatchFeature({**self._tokenize(prompts, answers, **padding), **inputs}, tensor_type=return_tensors)

    def num_embeddings(self, num_codes: int) -> int:
        """Motion embeddings, and so `<motion>` placeholders, of a clip of so many codes."""
        return -(-num_codes // self.codes_per_embedding)

    def _tokenize(self, prompts: list[str], answers: list[str] | None, padding_side: str = "left", **padding):
        if padding_side not in ("left", "right"):
            raise ValueError(f"padding_side is {padding_side!r}, expected 'left' or 'right'")
        # the chat template has written the special tokens; adding them again would double Llama's begin-of-text
        ids = self.tokenizer(prompts, add_special_tokens=False)["input_ids"]
        learnt = [[]] * len(ids) if answers is None else [self.answer_tokens(answer) for answer in answers]
        lengths = [len(prompt) + len(answer) for prompt, answer in zip(ids, learnt, strict=True)]
        rows = {
            "input_ids": [prompt + answer for prompt, answer in zip(ids, learnt, strict=True)],
            "attention_mask": [[1] * length for length in lengths],
        }
        if answers is not None:
            rows["labels"] = [[-100] * len(prompt) + answer for prompt, answer in zip(ids, learnt, strict=True)]
        size = padded_size(lengths, "tokens, with motion and answer", self.tokenizer.model_max_length, **padding)
        if size is None:
            return rows
        blanks = {"input_ids": self.tokenizer.pad_token_id, "attention_mask": 0, "labels": -100}
        arrays = {name: [np.array(row, np.int64) for row in unpadded] for name, unpadded in rows.items()}
        return {name: pad_rows(unpadded, size, blanks[name], padding_side) for name, unpadded in arrays.items()}

    def answer_tokens(self, answer: str) -> list[int]:
        """Token ids of an answer, piece by piece between its `CUT`s."""
        pieces = self.tokenizer(answer.split(CUT), add_special_tokens=False)["input_ids"]
        return [token for piece in pieces for token in piece]

    def batch_decode(self, sequences, skip_special_tokens: bool = True, **kwargs) -> list[str]:
        """(B, S) token ids -> B strings."""
        texts = self.tokenizer.batch_decode(sequences, skip_special_tokens=skip_special_tokens, **kwargs)
        return [text.strip() for text in texts]

    def decode(self, token_ids, skip_special_tokens: bool = True, **kwargs) -> str:
        """(S,) token ids -> string."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens, **kwargs).strip()

    def attach(self, vqvae) -> "SignMotionProcessor":
        """Use the sign tokenizer `vqvae` (`model.model.vqvae`) for `encode_motion` and `decode_motion`."""
        self.vqvae = vqvae
        return self

    def encode_motion(self, motion, fps: float | None = None, dtype: torch.dtype = torch.float64):
        """Clips to their `MotionEncoding`: codes, and the latents that were rounded to them. See [`encode_motion`]."""
        return encode_motion(self._need_vqvae(), self.feature_extractor, motion, fps, dtype)

    def decode_motion(self, motion_codes, num_frames: int | None = None) -> np.ndarray:
        """(L, C) codes of one clip -> (frames, 52, 3) float32 joints in metres, cut to `num_frames` if given."""
        vqvae = self._need_vqvae()
        codes = torch.as_tensor(motion_codes, dtype=torch.long)
        codes = codes[0] if codes.ndim == 3 and len(codes) == 1 else codes
        if codes.ndim != 2:
            raise ValueError(f"expected the codes (length, codebooks) of one clip, got the shape {tuple(codes.shape)}")
        codes = codes[codes[:, 0] >= 0]
        return self.feature_extractor.to_joints(vqvae.decode(codes[None])[0].cpu().numpy())[:num_frames]

    def _need_vqvae(self):
        if self.vqvae is None:
            raise ValueError("no sign tokenizer attached; call processor.attach(model.model.vqvae) first")
        return self.vqvae


def encode_motion(vqvae, feature_extractor, motion, fps: float | None = None, dtype: torch.dtype = torch.float64):
    """Clips to their `MotionEncoding`: the one way from motion to codes.

    Args:
        motion: a clip in any form that the feature extractor takes, a list of clips, or what it made of them.
        fps: frame rate of clips that are arrays. dtype: of the computation, see `SignMotionVQVAE.encode`.
    """
    batch = feature_extractor(motion, fps=fps)
    return vqvae.encode(batch["input_features"], batch.get("input_features_mask"), dtype)


__all__ = ["MOTION_TOKENS", "SignMotionProcessor"]
