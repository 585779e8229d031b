"""The Trainer's run of a stage: Ctrl-C and SIGTERM end it with a checkpoint, early stopping when it gets no better."""

import functools
import multiprocessing
import multiprocessing.queues
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from transformers import EarlyStoppingCallback, Trainer, TrainerCallback, TrainerState

SIGNALS = (signal.SIGINT, signal.SIGTERM)
WORKER_SECONDS = 10  # a SIGTERM to a whole job reaches the readers too; so long they go on, to the end of the step


class Stopped(KeyboardInterrupt):
    """A signal ended the training after a checkpoint. `exit_code`: as shells have it, 130 or 143."""

    def __init__(self, message: str, signum: int):
        super().__init__(message)
        self.exit_code = 128 + signum


def train_until_stopped(trainer: Trainer, checkpoint: Path | None) -> None:
    """`trainer.train`, from `checkpoint` on if there is one.

    Raises:
        Stopped: Ctrl-C or SIGTERM came. The step was ended and a checkpoint saved.
    """
    if patience := trainer.args.early_stopping_patience:
        trainer.add_callback(EarlyStoppingCallback(patience))
    stop = _StopOnSignal(trainer)
    trainer.add_callback(stop)
    before = stop.listen()
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except Stopped:
        # what closes the progress bar, and writes what TensorBoard has not written yet
        trainer.callback_handler.on_train_end(trainer.args, trainer.state, trainer.control)
        for reader in multiprocessing.active_children():
            reader.kill()
        raise
    finally:
        if stop.loader is not None:
            stop.loader._iterator = (
                None  # persistent workers end now; told by SIGTERM at the exit, they would take a while
            )
        for signum, handler in before.items():
            signal.signal(signum, handler)


def is_over(trainer: Trainer, state: TrainerState | None) -> bool:
    """Whether a run that was saved in this state has nothing left to train: all its steps, or stopped early."""
    if state is None:
        return False
    early = state.stateful_callbacks.get("EarlyStoppingCallback", {})
    waited = early.get("attributes", {}).get("early_stopping_patience_counter", 0)
    return 0 < trainer.args.max_steps <= state.global_step or 0 < (trainer.args.early_stopping_patience or 0) <= waited


def find_best(checkpoint: Path, damage: Callable[[Path], str | None]) -> None:
    """Put into the trainer_state.json of `checkpoint` where the best checkpoint is now: the Trainer keeps its path as
    it was, and trains on without it where the folder has moved or the command came from elsewhere.

    Args:
        damage: of a checkpoint, what keeps it from being loaded, or None.
    """
    state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
    if not state.best_model_checkpoint:
        return
    best = checkpoint.with_name(Path(state.best_model_checkpoint).name)
    trouble = damage(best) if best.is_dir() else "it is gone"
    if trouble:
        print(f"{best}, the best so far, cannot be loaded ({trouble}): the best of what follows is kept", flush=True)
        state.best_metric = state.best_model_checkpoint = state.best_global_step = None
    elif str(best) == state.best_model_checkpoint:
        return
    else:
        state.best_model_checkpoint = str(best)
    unfinished = checkpoint / f"trainer_state.{os.getpid()}"
    state.save_to_json(str(unfinished))
    unfinished.replace(checkpoint / "trainer_state.json")


class _StopOnSignal(TrainerCallback):
    """Ends training after the step, or the evaluation, in which a signal comes."""

    def __init__(self, trainer: Trainer):
        self.trainer, self.signum, self.stopping, self.loader = trainer, 0, False, None

    def listen(self) -> dict:
        """Take the signals; -> the handlers before. What the process was started to ignore (nohup) it ignores."""
        if threading.current_thread() is not threading.main_thread():
            return {}
        heard = [signum for signum in SIGNALS if signal.getsignal(signum) is not signal.SIG_IGN]
        return {signum: signal.signal(signum, self._hear) for signum in heard}

    def _hear(self, signum, frame):
        alone = self.trainer.args.world_size == 1
        # torchrun passes on what the terminal has sent already, and ends what takes too long by itself
        signal.signal(signal.SIGINT, signal.SIG_DFL if alone else signal.SIG_IGN)
        if hasattr(signal, "SIGCHLD"):
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # readers that have been told to end as well are no error
        self.signum = self.signum or signum
        if self.trainer.is_world_process_zero():
            again = "; Ctrl-C again ends at once, without saving" if alone else ""
            # not print: the signal may have come in the middle of one
            os.write(2, f"\nstopping: this step is ended and a checkpoint saved{again}\n".encode())

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        self.loader = getattr(train_dataloader, "base_dataloader", train_dataloader)  # in accelerate's
        if self.loader is not None and self.loader.num_workers:
            self.loader.worker_init_fn = functools.partial(_outlive_signals, self.loader.worker_init_fn)

    def on_step_end(self, args, state, control, **kwargs):
        if not float(state.epoch).is_integer():  # at an epoch's end maybe an evaluation follows
            self.on_epoch_end(args, state, control)

    def on_epoch_end(self, args, state, control, **kwargs):
        accelerator = self.trainer.accelerator
        if self.signum and not self.stopping:
            accelerator.set_trigger()
        # all processes stop after the same step; one by itself need not ask
        if self.stopping or (accelerator.check_trigger() if accelerator.num_processes > 1 else self.signum):
            self.stopping = control.should_save = True
            args.save_only_model = False  # or else nothing could go on from it

    def on_evaluate(self, args, state, control, **kwargs):
        self.on_epoch_end(args, state, control)

    def on_save(self, args, state, control, **kwargs):
        over = state.global_step >= state.max_steps or control.should_training_stop
        if not self.stopping or over:
            return
        self.trainer.accelerator.wait_for_everyone()  # a process that ended would end those that still write
        signum = self.signum or signal.SIGTERM
        if not state.is_world_process_zero:
            sys.exit(128 + signum)
        raise Stopped(
            f"stopped after step {state.global_step} of {state.max_steps}, saved in {args.output_dir}/"
            f"checkpoint-{state.global_step}; to go on, give the same command again",
            signum,
        )


def _outlive_signals(init: Callable | None, worker: int) -> None:
    """In a process that reads: leave it to the training when to end, but end if no batch can be passed on."""
    # with /dev/shm full it would print a traceback, and the training wait for ever
    multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(lambda error, batch: os._exit(1))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):
        signal.signal(signal.SIGTERM, lambda signum, frame: signal.alarm(WORKER_SECONDS))
    if init:
        init(worker)
