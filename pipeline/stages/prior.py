"""Train the head prior on random ICT-FaceKit heads; a killed run carries on from its state folder."""

from pathlib import Path

import torch

from pipeline import cli
from pipeline.head.model.prior import save_prior
from pipeline.head.train.bank import bank_key, make_bank
from pipeline.head.train.ict import load_face_model
from pipeline.head.train.trainer import Trainer, new_prior
from pipeline.settings.prior import PriorSettings
from pipeline.store.chunk import publish
from pipeline.store.state import TrainingState

STAGE = "pipeline.stages.prior"


def main() -> None:
    """Draw heads, train, publish the weights."""
    arguments = cli.parser(__doc__, PriorSettings)
    arguments.add_argument("--ict", type=Path, required=True, help="ict_facekit.npz")
    arguments.add_argument("--state", type=Path, required=True, help="folder for samples and the training state")
    arguments.add_argument("--output", type=Path, required=True, help="head_prior.safetensors")
    given = arguments.parse_args()
    torch.set_flush_denormal(True)  # Softplus with beta 100 makes denormal numbers, which are slow
    model = load_face_model(given.ict)
    state = TrainingState(given.state, STAGE, given.settings, [given.ict])
    prior, anchors = new_prior(model, given.settings.model, given.settings.seed)
    bank = make_bank(model, anchors, given.settings, given.state / bank_key(given.ict))
    trainer = Trainer(prior, bank, given.settings, state)
    trainer.run()
    with publish(given.output) as partial:
        save_prior(trainer.averaged(), partial)
    state.delete()
    cli.log.info("%s: %d steps", given.output, trainer.step)


if __name__ == "__main__":
    cli.run(main)
