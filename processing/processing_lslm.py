"""Motion and text to model input, and codes and token ids back to motion and text."""

from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from transformers import AddedToken, BatchFeature, ProcessorMixin

if TYPE_CHECKING:
    # Never imported at run time: saving follows relative imports, so these lines make a checkpoint carry the code of
    # the feature extractor and the pipeline.
    from .feature_extraction_lslm import SignMotionFeatureExtractor  # noqa: F401
    from .pipeline_lslm import SignTranslationPipeline  # noqa: F401

# In this order, which gives `<motion>` the ids of the paper's Table 9: 128259 with Llama 3, 151668 with Qwen2.5.
MOTION_TOKENS = ("<motion_start>", "<motion_end>", "<motion_pad>", "<motion>")
MOTION = "<motion>"
CUT = "\u2063"  # in an answer: a token ends here, whatever the tokenizer would join. Nothing of it is in the tokens
# Llama 3.2 would write today's date into every prompt: training and use must see the same one
DATE = "26 Jul 2024"
DEFAULT_PROMPT = "Translate the American Sign Language in <motion> into English."

# For language models that come without a chat template
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _is_message(value) -> bool:
    return not hasattr(value, "messages") and (
        isinstance(value, dict) or is_dataclass(value) or hasattr(value, "model_dump")
    )


def _as_dict(message) -> dict:
    """A chat message, or a block of its content, as a dict of the fields that are set."""
    if is_dataclass(message):
        message = {field.name: getattr(message, field.name) for field in fields(message)}
    elif hasattr(
        message, "model_dump"
    ):  # pydantic, as OpenAI's client has them; iterated, a clip in it stays what it is
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
        tokenizer.add_tokens(
            [AddedToken(t, special=True, normalized=False) for t in MOTION_TOKENS], special_tokens=True
        )
        if tokenizer.pad_token is None:
            tokenizer.pad_token = "<motion_pad>"
        tokenizer.padding_side = "left"  # generation continues at the right
        self.motion_token = MOTION
        self.motion_token_id = tokenizer.convert_tokens_to_ids(MOTION)
        self.prompt = prompt
        self.system_prompt = system_prompt
        self.codes_per_embedding = codes_per_embedding
        self.vqvae = None
        super().__init__(
            feature_extractor,
            tokenizer,
            chat_template=chat_template or getattr(tokenizer, "chat_template", None) or CHATML,
        )

    @property
    def model_input_names(self):
        return ["input_ids", "attention_mask", "input_features", "input_features_mask"]

    def to_dict(self, *args, **kwargs):
        output = super().to_dict(*args, **kwargs)
        for name in ("vqvae", "motion_token", "motion_token_id"):  # follow from the rest, or have a file of their own
            output.pop(name, None)
        return output

    # ---- to the model --------------------------------------------------------------------------------------------

    def __call__(
        self,
        text: str | list[str] | None = None,
        motion=None,
        motion_codes=None,
        answer: str | list[str] | None = None,
        fps: float | None = None,
        return_tensors: str | None = "pt",
        **kwargs,
    ) -> BatchFeature:
        """Prompts with motion to model input.

        Args:
            text: one user message per prompt, each with a `<motion>` for each of its clips; None: `self.prompt` for
                every clip. It is put through the chat template.
            motion: a clip in any form that `SignMotionFeatureExtractor` takes, or a list of clips in the order of the
                placeholders, or
            motion_codes: (L,) int codes of a clip, or a list of them.
            answer: what the model is to say; gives `labels`, which are -100 everywhere but on the answer and its end.
            fps: frame rate of clips that are arrays.

        Returns:
            `input_ids`, `attention_mask` (B, S), `input_features` (N, T, 623) with `input_features_mask` or
            `motion_codes` (N, L), and with `answer` `labels` (B, S). Padded at the left (prompts) and right (motion).

        Raises:
            ValueError: the number of placeholders differs from the number of clips.
        """
        inputs, lengths = self._motion_inputs(motion, motion_codes, fps)
        return self._prompt(text, inputs, lengths, answer, return_tensors)

    def encode_features(
        self,
        text: str | list[str],
        features: list[np.ndarray],
        answer: list[str] | None = None,
        return_tensors: str = "pt",
    ) -> BatchFeature:
        """As [`__call__`], for features (T, 623) that are normalised already: what a data loader keeps."""
        inputs = dict(self.feature_extractor.pad(features, return_tensors="np"))
        return self._prompt(text, inputs, self._lengths(inputs), answer, return_tensors)

    def _lengths(self, inputs: dict) -> list[int]:
        return [self.feature_extractor.num_codes(int(n)) for n in inputs["input_features_mask"].sum(-1)]

    def _prompt(self, text, inputs: dict, lengths: list[int], answer, return_tensors) -> BatchFeature:
        """User messages and answers as conversations of one turn."""
        texts = [self.prompt] * len(lengths) if text is None else [text] if isinstance(text, str) else list(text)
        if not texts:
            raise ValueError("nothing to read: pass text, motion or motion_codes")
        answers = [answer] if isinstance(answer, str) else answer
        conversations = [[{"role": "user", "content": t}] for t in texts]
        if answers is not None:
            if len(answers) != len(texts):
                raise ValueError(f"{len(texts)} prompts but {len(answers)} answers")
            for conversation, a in zip(conversations, answers, strict=True):
                conversation.append({"role": "assistant", "content": a})
        return self._encode(conversations, inputs, lengths, return_tensors, labels=answers is not None)

    def apply_chat_template(
        self,
        conversation,
        chat_template: str | None = None,
        tokenize: bool = False,
        return_dict: bool = False,
        return_labels: bool = False,
        add_generation_prompt: bool = True,
        fps: float | None = None,
        return_tensors: str | None = "pt",
        **kwargs,
    ):
        """Chat messages with motion to model input.

        A message's content is a string, or a list of blocks `{"type": "text", "text": ...}` and `{"type": "motion",
        "motion": clip}` (or `"path": file`, or `"motion_codes": codes`).

        Args:
            conversation: messages, or a list of conversations. A message and a block of its content are dicts, data
                classes or pydantic models; what has `messages` is a conversation.
            tokenize: False gives the rendered text, with one `<motion>` per clip.
            return_labels: learn the last message, which must be the assistant's.
        """
        items = list(getattr(conversation, "messages", conversation))
        if not items:
            raise ValueError("no chat messages came; expected a list of them, or of conversations")
        several = not (_is_message(items[0]) or isinstance(items[0], str))
        clips, codes, flat = [], [], []
        for messages in items if several else [items]:
            messages = [_as_dict(message) for message in getattr(messages, "messages", messages)]
            flat.append([{**m, "content": self._flatten(m.get("content", ""), clips, codes)} for m in messages])
        if not tokenize:
            texts = [self._render(m, add_generation_prompt, chat_template) for m in flat]
            return texts if several else texts[0]
        inputs, lengths = self._motion_inputs(clips or None, codes or None, fps)
        batch = self._encode(flat, inputs, lengths, return_tensors, return_labels, chat_template)
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
                if "motion_codes" in block:
                    codes.append(block["motion_codes"])
                elif "motion" in block or "path" in block:
                    clips.append(block["motion"] if "motion" in block else block["path"])
                else:
                    raise ValueError(f"a motion block has motion, path or motion_codes; this one has {sorted(block)}")
                parts.append(MOTION)
            else:
                raise ValueError(f"a message block is 'text' or 'motion', not {kind!r}")
        return " ".join(parts)

    def _render(self, messages: list[dict], add_generation_prompt: bool, chat_template: str | None = None) -> str:
        if self.system_prompt is not None and messages[0]["role"] != "system":
            messages = [{"role": "system", "content": self.system_prompt}, *messages]
        return self.tokenizer.apply_chat_template(
            messages,
            chat_template=chat_template or self.chat_template,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            date_string=DATE,
        )

    def _motion_inputs(self, motion, motion_codes, fps) -> tuple[dict[str, np.ndarray], list[int]]:
        """Motion in any form to padded arrays, and the number of codes of each clip."""
        if motion is not None and motion_codes is not None:
            raise ValueError("pass motion or motion_codes, not both")
        if motion is not None:
            inputs = dict(self.feature_extractor(motion, fps=fps, return_tensors="np"))
            return inputs, self._lengths(inputs)
        if motion_codes is None:
            return {}, []
        if not len(motion_codes):
            raise ValueError("no codes to read: the list is empty")
        clips = [np.asarray(clip) for clip in ([motion_codes] if np.ndim(motion_codes[0]) == 0 else motion_codes)]
        clips = [clip[clip >= 0] for clip in clips]  # a batch of the sign tokenizer is padded with -100
        lengths = [len(clip) for clip in clips]
        codes = np.full((len(clips), max(lengths)), -100, np.int64)
        for row, clip in zip(codes, clips, strict=True):
            row[: len(clip)] = clip
        return {"motion_codes": codes}, lengths

    def _encode(self, conversations, inputs, lengths, return_tensors, labels=False, chat_template=None) -> BatchFeature:
        prompts, answers = [], []
        for messages in conversations:
            if not labels:
                last_is_user = messages[-1]["role"] != "assistant"
                prompts.append(self._render(messages, last_is_user, chat_template))
                continue
            if messages[-1]["role"] != "assistant":
                raise ValueError("labels are for the last message, which must be the assistant's")
            prompt = self._render(messages[:-1], True, chat_template)
            whole = self._render(messages, False, chat_template)
            if not whole.startswith(prompt):
                raise ValueError(
                    "this chat template changes the prompt when the answer follows; labels are not defined"
                )
            prompts.append(prompt)
            answers.append(whole[len(prompt) :].rstrip())  # nothing is said after the end-of-turn token
        embeddings = [self.num_embeddings(length) for length in lengths]
        batch = self._tokenize(self._expand(prompts, embeddings), answers if labels else None)
        return BatchFeature({**batch, **inputs}, tensor_type=return_tensors)

    def num_embeddings(self, num_codes: int) -> int:
        """Motion embeddings, and so `<motion>` placeholders, of a clip of so many codes."""
        return -(-num_codes // self.codes_per_embedding)

    @staticmethod
    def _expand(prompts: list[str], lengths: list[int]) -> list[str]:
        """Replace each `<motion>` by as many as its clip has embeddings, between start and end."""
        found = sum(prompt.count(MOTION) for prompt in prompts)
        if found != len(lengths):
            raise ValueError(
                f"the prompts hold {found} {MOTION} placeholder(s), but {len(lengths)} clip(s) were passed"
            )
        remaining = iter(lengths)
        expanded = []
        for prompt in prompts:
            head, *tail = prompt.split(MOTION)
            expanded.append(
                head + "".join(f"<motion_start>{MOTION * next(remaining)}<motion_end>{part}" for part in tail)
            )
        return expanded

    def _tokenize(self, prompts: list[str], answers: list[str] | None) -> dict[str, np.ndarray]:
        # the chat template has written the special tokens; adding them again would double Llama's begin-of-text
        ids = self.tokenizer(prompts, add_special_tokens=False)["input_ids"]
        learnt = [self.answer_tokens(answer) for answer in answers] if answers is not None else [[]] * len(ids)
        longest = max(len(p) + len(a) for p, a in zip(ids, learnt, strict=True))
        input_ids = np.full((len(ids), longest), self.tokenizer.pad_token_id, np.int64)
        mask = np.zeros_like(input_ids)
        labels = np.full_like(input_ids, -100)
        for row, (prompt, answer) in enumerate(zip(ids, learnt, strict=True)):
            start = longest - len(prompt) - len(answer)
            input_ids[row, start:] = prompt + answer
            mask[row, start:] = 1
            if answer:
                labels[row, -len(answer) :] = answer
        return {"input_ids": input_ids, "attention_mask": mask} | ({} if answers is None else {"labels": labels})

    def answer_tokens(self, answer: str) -> list[int]:
        """Token ids of an answer, piece by piece between its `CUT`s."""
        pieces = self.tokenizer(answer.split(CUT), add_special_tokens=False)["input_ids"]
        return [token for piece in pieces for token in piece]

    # ---- from the model ------------------------------------------------------------------------------------------

    def batch_decode(self, sequences, skip_special_tokens: bool = True, **kwargs) -> list[str]:
        """(B, S) token ids -> B strings."""
        texts = self.tokenizer.batch_decode(sequences, skip_special_tokens=skip_special_tokens, **kwargs)
        return [text.strip() for text in texts]

    def decode(self, token_ids, skip_special_tokens: bool = True, **kwargs) -> str:
        """(S,) token ids -> string."""
        return self.tokenizer.decode(token_ids, skip_special_tokens=skip_special_tokens, **kwargs).strip()

    # ---- sign tokenizer ------------------------------------------------------------------------------------------

    def attach(self, vqvae) -> "SignMotionProcessor":
        """Use the sign tokenizer `vqvae` (`model.model.vqvae`) for `encode_motion` and `decode_motion`."""
        self.vqvae = vqvae
        return self

    def encode_motion(self, motion, fps: float | None = None) -> list[np.ndarray]:
        """Clips (any form) -> one (L,) int64 array of codes per clip."""
        batch = self.feature_extractor(motion, fps=fps)
        vqvae = self._need_vqvae()
        codes = vqvae.encode(batch["input_features"], batch["input_features_mask"])
        return [row[row >= 0] for row in codes.cpu().numpy()]

    def decode_motion(self, motion_codes, num_frames: int | None = None) -> np.ndarray:
        """(L,) codes of one clip -> (L * downsample_factor, 52, 3) float32 joints in metres at the model's frame rate,
        cut to `num_frames` if given."""
        vqvae = self._need_vqvae()
        codes = torch.as_tensor(np.asarray(motion_codes), dtype=torch.long)
        joints = self.feature_extractor.to_joints(vqvae.decode(codes[None])[0].cpu().numpy())
        return joints[:num_frames]

    def _need_vqvae(self):
        if self.vqvae is None:
            raise ValueError("no sign tokenizer attached; call processor.attach(model.model.vqvae) first")
        return self.vqvae


__all__ = ["MOTION_TOKENS", "SignMotionProcessor"]
