"""New faces from a model that is trained already, and faces as they are asked for.

What draws codes decides how samples look. To the codes of training faces and of their
mirror images a mixture of normal distributions, a masked autoregressive flow and a
rectified flow are fitted, the last for each combination of some of CelebA's attributes,
of which it then draws. Measured in the features of a classifier of all attributes: the
Fréchet distance of as many samples as there are held-back faces, precision and recall,
means of five draws, since one differs from another by as much as samplers do; and how
often the classifier reads the attributes that were asked for, beside how often it is
right on held-back faces. The model is the VAE that comes with the package, or another
one: `--set model=runs/celeba-klae`.

Reference:
    Liu et al., Flow Straight and Fast: Learning to Generate and Transfer Data with
    Rectified Flow, 2023; Ho and Salimans, Classifier-Free Diffusion Guidance, 2022.
"""

import itertools

import numpy as np

import keras_ae


def main(
    run,
    model="celeba-vae",
    attributes=("Male", "Smiling"),
    guidance=1.5,
    samplers=("mixture", "maf"),
    sampler_epochs=30,
    draws=5,
):
    train, _, test = run.load("celeba", image_size=64)
    trained = run.trained(model, test)
    found = run.labels["train"]
    unknown = [name for name in attributes if name not in found]
    if unknown and len(found) > 1:
        names = ", ".join(name for name in found if name != "path")
        raise ValueError(
            f"`attributes` must be among {names}. Received: {', '.join(unknown)}"
        )
    run.adopt(trained, train)
    # A face in the mirror is a face, and twice as many say more about where codes lie.
    faces = np.concatenate([train, train[:, :, ::-1]])
    epochs = run.epochs or 100
    for sampler in samplers:
        options = {"epochs": sampler_epochs} if sampler == "maf" else {}
        run.fit_sampler(trained, sampler, faces, **options)
    labels = None if unknown else np.tile(_classes(found, attributes), 2)
    run.fit_sampler(trained, "flow", faces, labels=labels, epochs=epochs)
    network = run.feature_network(train)
    run.compare({"model": trained}, train, test, network, draws)
    if labels is not None:
        ask(run, trained, network, attributes, guidance, test, draws)
    run.evaluate(trained, test)
    run.pictures(trained, test)


def _classes(labels, attributes):
    """The number of each face's combination of attributes, the first counts most."""
    return sum(
        labels[name].astype("int32") << place
        for place, name in enumerate(reversed(attributes))
    )


def ask(run, model, network, attributes, guidance, test, draws):
    """Measures and draws faces whose attributes are asked for."""
    combinations = [*itertools.product((False, True), repeat=len(attributes))]
    asked = np.arange(len(test)) % len(combinations)
    wanted = np.array(combinations)[asked]
    names = [name for name in run.labels["test"] if name != "path"]
    columns = [names.index(name) for name in attributes]
    truth = np.stack([run.labels["test"][name] for name in attributes], axis=1)
    right = (network.predict(test)[:, columns] > 0.5) == truth
    run.scores(classifier_right=np.mean(right))
    real = network.features(test)

    def draw(labels, strength, seed=run.seed):
        options = {"labels": labels, "guidance": strength, "seed": seed}
        return np.clip(model.sample(len(labels), sampler="flow", **options), 0, 1)

    for strength in (1.0, guidance):
        sets = [draw(asked, strength, run.seed + i) for i in range(draws)]
        read = [network.predict(drawn)[:, columns] > 0.5 for drawn in sets]
        label = f"guided_by_{strength:g}".replace(".", "_")
        run.scores(**{f"{label}_read_as_asked": np.mean(np.array(read) == wanted)})
        if len(real) > real.shape[1]:
            distances = [
                keras_ae.metrics.frechet_distance(real, network.features(drawn))
                for drawn in sets
            ]
            run.scores(**{f"{label}_frechet_distance": np.mean(distances)})
    rows = {
        ", ".join(
            f"{'' if holds else 'not '}{name.replace('_', ' ').lower()}"
            for name, holds in zip(attributes, combination, strict=True)
        ): draw(np.full(10, number), guidance)
        for number, combination in enumerate(combinations)
    }
    run.picture(
        "asked_for",
        keras_ae.plots.labelled({"Faces that were asked for": rows}),
        f"Samples of the flow, guided by {guidance:g}, of each combination.",
    )
