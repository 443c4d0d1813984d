"""Arms that train on images, each in a process of its own: ours and Hugging Face's."""

import itertools
from pathlib import Path

import numpy as np

from benchmarks import training_arms
from benchmarks.rounds import serve

CHECKED = 5  # first steps, whose losses the arms must agree in


class Ours(training_arms.Ours):
    """What ``tfm_jax.main --mode=train`` runs, without logs, scores and checkpoints."""

    def _counted(self, batches):
        for batch in batches:
            self.real += int(np.count_nonzero(batch.weights))
            self.places += len(batch.weights)
            yield batch

    def facts(self):
        """What the other arm needs: the first weights, and the batches of an epoch."""
        from tfm_jax.interop import folders
        from tfm_jax.train.assemble import batches_from

        run, folder = self.run, self.run.workdir
        cfg, params = run.experiment.model, run.state.params
        names = {"labels": [str(label) for label in range(cfg.labels)]}
        folders.save(folder / "model", params, cfg, **names)
        (rows,) = run.data.train
        size, images = run.experiment.train.batch_tokens, len(rows.labels)
        if size > images:
            raise SystemExit(f"--images={size}: there are {images:,} to train on")
        batches = batches_from(run.experiment, run.data, run.mesh, 0)
        count = images // size
        epoch = [*itertools.islice(batches, count)]
        for name in ("images", "labels"):
            np.save(folder / f"{name}.npy", [getattr(batch, name) for batch in epoch])
        return {
            "parameters": sum(x.size for x in self.jax.tree.leaves(params)),
            "headline": run.headline(),
            "config": run.experiment.as_dict(),
            "first_losses": first_losses(self),
        }


class Torch(training_arms.TorchLoop):
    """The same batches."""

    def __init__(self, config, folder):
        super().__init__(config)
        sides = (np.load(folder / f"{name}.npy") for name in ("images", "labels"))
        self.batches = itertools.cycle(zip(*sides, strict=True))
        self.model = self.load(folder / "model").train()
        bfloat16 = config["model"]["dtype"] == "bfloat16"
        torch = self.torch
        self.rounding = torch.autocast("cpu", torch.bfloat16, enabled=bfloat16)
        self.optimizer = self.adam()

    def next_batch(self):
        """Images [B, C, H, W] in [-1, 1], and labels [B]."""
        images, labels = map(self.torch.from_numpy, next(self.batches))
        self.real += len(labels)
        self.places += len(labels)
        return images.movedim(-1, 1).float() / 127.5 - 1, labels.long()

    def facts(self):
        """For the comparison of sizes and of what is learnt."""
        return super().facts() | {"first_losses": first_losses(self)}


class Vit(Torch):
    """``transformers.ViTForImageClassification`` with the loss it computes."""

    def load(self, folder):
        """The model with our first weights."""
        from transformers import ViTForImageClassification

        return ViTForImageClassification.from_pretrained(folder)

    def loss_of(self, pixels, labels):
        """Mean over images."""
        return self.model(pixel_values=pixels, labels=labels).loss


class Dit(Torch):
    """``diffusers.DiTTransformer2DModel`` and DDPM's loss of the noise.

    Its blocks share the maps of time and label, so that the parameters are as many, and
    its frequencies and its epsilon are those of the published code; no label is left
    out.
    """

    def load(self, folder):
        """The model with our first weights."""
        from diffusers import DDPMScheduler, DiTTransformer2DModel

        from tfm_jax.interop.maps import DENOISERS

        self.scheduler = DDPMScheduler(num_train_timesteps=1000)
        model = DiTTransformer2DModel.from_pretrained(folder)
        DENOISERS["DiTTransformer2DModel"].as_published(model)
        shared = model.transformer_blocks[0].norm1.emb
        shared.class_embedder.dropout_prob = 0.0
        for block in model.transformer_blocks:
            block.norm1.emb = shared
        return model

    def loss_of(self, pixels, labels):
        """Mean squared error of the noise, of a step drawn for each image."""
        noise = self.torch.randn_like(pixels)
        steps = self.torch.randint(0, 1000, (len(pixels),))
        noisy = self.scheduler.add_noise(pixels, noise, steps)
        predicted = self.model(noisy, steps, class_labels=labels).sample
        return self.torch.nn.functional.mse_loss(predicted.float(), noise)


def first_losses(arm):
    """Of as many steps; they compile."""
    losses = []
    for _ in range(CHECKED):
        arm.step()
        losses.append(arm.wait())
    return losses


def start(arm, folder, config):
    """(facts, arm) for ``rounds.serve``."""
    arms = {"tfm_jax": Ours, "transformers": Vit, "diffusers": Dit}
    training = arms[arm](config, Path(folder))
    return training.facts(), training


if __name__ == "__main__":
    serve(start)
