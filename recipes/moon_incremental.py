"""An auto-decoder that knows crescent moons learns the others later (no download).

First come crescents. Then 1,000 fuller moons arrive, and `extend` takes them in, in
three ways: with the decoder frozen; fine-tuned with replay, where what the old codes
decoded to before is learned beside the new moons, and the old pictures are not needed;
and fine-tuned without. A fourth model is trained from scratch on all moons, for as many
epochs as are spent on fine-tuning.

The scores are the mean squared errors of what the stored codes decode to, on the old
moons and on the new ones. The goal of fine-tuning with replay: on the new moons at most
10 % above training from scratch, on the old ones at most 5 % above what it was before.
Training from scratch still gets the old moons better: replay keeps what was learnt, and
no more.
"""

import keras
import numpy as np

import keras_ae


def main(
    run,
    latent_dim=8,
    widths=(512, 256),
    learning_rate=1e-3,
    code_learning_rate=0.1,
    crescent=0.15,
    new_moons=1000,
    epochs_later=200,
):
    splits = run.load("moon-phases", image_size=24)
    phases = [labels["phase"] for labels in run.labels.values()]
    old, validation, test = (
        images[phase < crescent] for images, phase in zip(splits, phases, strict=True)
    )
    # Waxing moons only, up to the full moon.
    later = (phases[0] >= crescent) & (phases[0] < 0.5)
    new = splits[0][later][:new_moons]
    new_phases = phases[0][later][:new_moons]
    epochs = run.epochs or 120
    epochs_later = run.epochs or epochs_later
    batch_size = run.batch_size or 64

    def compiled(model, moons, epochs):
        """The model, whose rates fall to 0 within that many epochs over the moons."""
        steps = epochs * -(-moons // batch_size)
        decay = keras.optimizers.schedules.CosineDecay
        model.compile(
            {
                "decoder": keras.optimizers.Adam(decay(learning_rate, steps)),
                # A code is moved once an epoch only.
                "codes": keras.optimizers.Adam(
                    decay(code_learning_rate, steps), beta_2=0.99
                ),
            }
        )
        return model

    def auto_decoder(moons, epochs):
        model = keras_ae.AutoDecoder(
            latent_dim=latent_dim,
            architecture="dense",
            widths=widths,
            activation="swish",
            likelihood=keras_ae.likelihoods.Gaussian(1.0, activation="sigmoid"),
        )
        return compiled(model, moons, epochs)

    def train(part, moons, epochs):
        model = part.model(lambda: auto_decoder(len(moons), epochs))
        # Codes of validation moons are searched for each epoch, and decide nothing.
        part.fit(
            model,
            moons,
            validation[:32],
            epochs=epochs,
            batch_size=batch_size,
            patience=epochs,
            monitor="loss",
        )
        return model

    crescents = train(run, old, epochs)
    run.evaluate(crescents, test)
    run.pictures(crescents, test, phases[2][phases[2] < crescent], "phase")
    old_ids = crescents.sample_ids
    before = error(crescents, old_ids, old)
    print(f"Crescents alone: mse {before:.6f}")
    run.scores(crescents=len(old), new_moons=len(new), old_mse_before=before)

    restored = {}
    replay = len(old) / len(new)  # all of the old moons
    ways = {
        "frozen": {},
        "fine_tuned": {"epochs": epochs_later, "replay": replay},
        "without_replay": {"epochs": epochs_later, "replay": 0.0},
    }
    for way, options in ways.items():
        keras.utils.set_random_seed(run.seed)
        # As the model was saved when it knew crescents only.
        model = keras_ae.runs.load_model(run.directory)
        if options:
            replayed = len(old) if options["replay"] else 0
            compiled(model, len(new) + replayed, epochs_later)
        new_ids = model.extend(new, batch_size=batch_size, verbose=0, **options)
        restored[way] = model.decode(model.codes(new_ids))
        score(run, way, error(model, old_ids, old), error(model, new_ids, new), before)

    scratch = train(run.child("from-scratch"), np.concatenate([old, new]), epochs_later)
    own_ids = np.split(scratch.sample_ids, [len(old)])
    restored["from_scratch"] = scratch.decode(scratch.codes(own_ids[1]))
    errors = [error(scratch, *pair) for pair in zip(own_ids, (old, new), strict=True)]
    score(run, "from_scratch", *errors, before)
    fine_tuned = keras_ae.metrics.mse(new, restored["fine_tuned"])
    run.scores(fine_tuned_new_mse_over_from_scratch=fine_tuned / errors[1])

    chosen = np.argsort(new_phases)[np.linspace(0, len(new) - 1, 12).astype(int)]
    rows = [new[chosen] / 255.0, *(pictures[chosen] for pictures in restored.values())]
    run.picture(
        "new_moons",
        keras_ae.plots.sheet(np.concatenate(rows), columns=len(chosen)),
        "New moons, and what their codes decode to, a row each: "
        f"{', '.join(restored)}.".replace("_", " "),
    )


def error(model, sample_ids, moons):
    """Mean squared error of what stored codes decode to."""
    return keras_ae.metrics.mse(moons, model.decode(model.codes(sample_ids)))


def score(run, way, old_error, new_error, before):
    growth = old_error / before - 1
    print(f"{way}: mse {old_error:.6f} on old ({growth:+.1%}), {new_error:.6f} on new")
    run.scores(
        **{
            f"{way}_old_mse": old_error,
            f"{way}_old_growth": growth,
            f"{way}_new_mse": new_error,
        }
    )
