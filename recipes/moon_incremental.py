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
    before = keras_ae.metrics.mse(old, decoded(crescents, old_ids))
    print(f"Crescents alone: mse {before:.6f}", flush=True)
    run.scores(crescents=len(old), new_moons=len(new), old_mse_before=before)

    restored = {}  # old and new moons, by the way in which they were learned
    replay = len(old) / len(new)  # all of the old moons
    ways = {
        "frozen": {},
        "fine_tuned": {"epochs": epochs_later, "replay": replay},
        "without_replay": {"epochs": epochs_later, "replay": 0.0},
    }
    for way, options in ways.items():
        keras.utils.set_random_seed(run.seed)
        # As it was saved when it knew crescents only.
        model = keras_ae.runs.load_model(run.directory)
        if options:
            replayed = len(old) if options["replay"] else 0
            compiled(model, len(new) + replayed, epochs_later)
        new_ids = model.extend(new, batch_size=batch_size, verbose=0, **options)
        restored[way] = decoded(model, old_ids), decoded(model, new_ids)
    beside = run.child("from-scratch")
    scratch = train(beside, np.concatenate([old, new]), epochs_later)
    ids = np.split(scratch.sample_ids, [len(old)])
    restored["from_scratch"] = decoded(scratch, ids[0]), decoded(scratch, ids[1])

    errors = {}  # on new moons
    for way, pictures in restored.items():
        on_old, on_new = map(keras_ae.metrics.mse, (old, new), pictures)
        errors[way] = on_new
        growth = on_old / before - 1
        print(f"{way}: mse {on_old:.6f} on old ({growth:+.1%}), {on_new:.6f} on new")
        run.scores(
            **{
                f"{way}_old_mse": on_old,
                f"{way}_old_growth": growth,
                f"{way}_new_mse": on_new,
            }
        )
    excess = errors["fine_tuned"] / errors["from_scratch"] - 1
    run.scores(fine_tuned_new_mse_above_from_scratch=excess)
    for index, (name, moons) in enumerate((("old", old), ("new", new))):
        rows = [moons[:12] / 255.0, *(pair[index][:12] for pair in restored.values())]
        run.picture(
            f"{name}_moons",
            keras_ae.plots.sheet(np.concatenate(rows), columns=len(rows[0])),
            f"{name.capitalize()} moons, and what their codes decode to, a row each: "
            f"{', '.join(restored)}.".replace("_", " "),
        )


def decoded(model, sample_ids):
    """What the stored codes of samples decode to."""
    return model.decode(model.codes(sample_ids))
