"""One of two processes that draw the batches of an epoch from a stream; tests/test_streaming.py runs it.

torchrun --nproc_per_node 2 tests/streamed_process.py DATA OUTPUT
"""

import json
import sys
from itertools import islice

import torch
import torch.distributed as dist
from transformers import Trainer

from lslm.processing import SignMotionFeatureExtractor
from lslm.training.dataset.streaming import train_loader, training_clips
from lslm.training.recipe import parse
from lslm.training.stages.tokenizer import TokenizerArguments

WORKERS = 2


def main(data: str, output: str) -> None:
    flags = {"data": data, "output_dir": output, "max_steps": "9", "stream": "true", "report_to": "none"}
    flags |= {"dataloader_num_workers": WORKERS, "per_device_train_batch_size": 1, "dataloader_pin_memory": "false"}
    args = parse(TokenizerArguments, [f"--{key}={value}" for key, value in flags.items()], "lslm tokenizer")
    clips = training_clips(args, SignMotionFeatureExtractor(fps=15.0))
    trainer = Trainer(
        model=torch.nn.Linear(1, 1),
        args=args,
        train_dataset=clips,
        data_collator=lambda items: {"text": [item["text"] for item in items]},
    )
    readers = range(WORKERS * clips.rank, WORKERS * (clips.rank + 1))
    sizes = [len(list(clips.items(0, reader, WORKERS * clips.world_size))) for reader in readers]
    # the first epoch of every worker; a batch of one clip comes from each in turn
    batches = [batch["text"][0] for batch in islice(train_loader(trainer), max(sizes) * WORKERS)]
    drawn = [text for number, size in enumerate(sizes) for text in batches[number::WORKERS][:size]]
    gathered = [None, None]
    dist.all_gather_object(gathered, drawn)
    if dist.get_rank() == 0:
        print(json.dumps(gathered), flush=True)


main(*sys.argv[1:])
dist.destroy_process_group()
