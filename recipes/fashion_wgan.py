"""A Wasserstein GAN with gradient penalty on Fashion-MNIST.

The critic takes five steps for each of the generator's, as in the paper. Its score is
the Fréchet distance of samples to test pictures in the features of a classifier of the
ten classes, beside that of training pictures, which is as low as it gets.

Reference:
    Gulrajani et al., Improved Training of Wasserstein GANs, 2017.
"""

import keras_ae


def main(run, latent_dim=64, critic_steps=5, ema_momentum=0.999):
    train, _, test = run.load("fashion-mnist")

    def build():
        return keras_ae.GAN(
            latent_dim=latent_dim,
            adversarial_loss="wasserstein",
            critic_steps=critic_steps,
            ema_momentum=ema_momentum,
        )

    model = run.model(build)
    run.fit(model, train, test, epochs=20, batch_size=64)
    run.evaluate(model, test)
    run.pictures(model, test, run.labels["test"]["label"], "class")

    classifier = keras_ae.features.train(
        train, run.labels["train"]["label"], seed=run.seed
    )
    features = classifier.features(test)
    drawn = {
        "samples": model.sample(len(test), seed=run.seed),
        "training_pictures": train[: len(test)],
    }
    run.scores(
        **{
            f"{name}_frechet_distance": keras_ae.metrics.frechet_distance(
                features, classifier.features(pictures)
            )
            for name, pictures in drawn.items()
        }
    )
