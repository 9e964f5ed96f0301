"""Records finished runs in `benchmarks/results` and in the tables of `docs`.

    python benchmarks/record.py runs/moon-vae runs/mnist-vae

keeps of each run its scores, settings, versions and machine as one JSON file, named
after the recipe, and writes the tables of results and of models anew, with
`keras_ae/zoo.json`, of which `keras-ae models` tells. Without arguments it writes only
these. No figure of ours is typed by hand; published ones are, in `ROWS`. What a model
is, and whose, comes from its docstring.
"""

import csv
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

import keras_ae
from keras_ae import catalogue

HERE = Path(__file__).parent
DOCS = HERE.parent / "docs"
RESULTS, MODELS = DOCS / "results.md", DOCS / "models" / "index.md"
ZOO = HERE.parent / "keras_ae" / "zoo.json"
BEGIN, END = "<!-- results: written by benchmarks/record.py -->", "<!-- end -->"
BEGIN_MODELS = "<!-- models: written by benchmarks/record.py -->"
END_MODELS = "<!-- end of models -->"

# What `zoo.py` trains with a code of 10; the others' has 40.
CODE_OF_10 = ("SphericalVAE", "PoincareVAE")
# In the order of the table; each is a folder of `keras_ae/models`.
FAMILIES = (
    "deterministic",
    "variational",
    "quantized",
    "adversarial",
    "decoder_only",
)
# The recipe that shows a model, where there is one.
SHOWN_BY = {
    "AAE": "mnist-aae",
    "AE": "mnist-ae",
    "AutoDecoder": "moon-incremental",
    "BetaTCVAE": "moon-betatcvae",
    "BetaVAE": "moon-betatcvae",
    "ConditionalVAE": "mnist-cvae",
    "DenoisingAE": "mnist-dae",
    "FactorVAE": "moon-factorvae",
    "GAN": "mnist-gan",
    "GLO": "mnist-glo",
    "IWAE": "mnist-iwae",
    "KLAutoencoder": "celeba-klae",
    "PCA": "mnist-pca",
    "RAE": "mnist-samplers",
    "StackedSAE": "mnist-sdae",
    "VAE": "mnist-vae",
    "VAEGAN": "celeba-vaegan",
    "VQGAN": "celeba-vqgan",
    "VQVAE": "mnist-vqvae",
    "VariationalAutoDecoder": "mnist-missing",
    "WAE": "celeba-wae",
}

# Recipe, what is measured, published figure, ours as a format of the scores.
ROWS = (
    (
        "moon-vae",
        "phase measured half the way from new to full moon; half moon is 0.5",
        "",
        "VAE {vae_midpoint_phase:.2f}, AE {ae_midpoint_phase:.2f}",
    ),
    (
        "mnist-ae",
        "summed squared error of a test digit, code of 30",
        "3.00; PCA 13.87 (Hinton and Salakhutdinov 2006)",
        "{summed_squared_error:.2f}; PCA {pca_summed_squared_error:.2f}",
    ),
    (
        "mnist-pca",
        "summed squared error of a test digit, 30 components",
        "13.87 (Hinton and Salakhutdinov 2006)",
        "{summed_squared_error:.2f}; linear AE {linear_ae_summed_squared_error:.2f}",
    ),
    (
        "mnist-dae",
        "PSNR in dB of 2,000 test digits with Gaussian noise of 0.25 / 0.5 / 0.75",
        "",
        "{psnr_autoencoder_25:.1f} / {psnr_autoencoder_50:.1f} / "
        "{psnr_autoencoder_75:.1f}; non-local means {psnr_non_local_means_25:.1f} / "
        "{psnr_non_local_means_50:.1f} / {psnr_non_local_means_75:.1f}; median filter "
        "{psnr_median_filter_25:.1f} / {psnr_median_filter_50:.1f} / "
        "{psnr_median_filter_75:.1f}",
    ),
    (
        "mnist-stacked-sae",
        "digits told right before and after {fine_tuning_epochs} epochs of fine-tuning",
        "87.7 %; 97.6 % (UFLDL exercise)",
        "{accuracy_before_fine_tuning:.1%}; {accuracy:.1%}",
    ),
    (
        "mnist-sdae",
        "test error after {fine_tuning_epochs} epochs of fine-tuning",
        "1.28 % (Vincent et al. 2010)",
        "{test_error:.2%}",
    ),
    (
        "mnist-few-labels",
        "test error with 100 / 1,000 / 10,000 / 60,000 labels, means of three seeds",
        "",
        "{pretrained_error_100_labels:.1%} / {pretrained_error_1000_labels:.1%} / "
        "{pretrained_error_10000_labels:.2%} / {pretrained_error_60000_labels:.2%}; "
        "random start {random_start_error_100_labels:.1%} / "
        "{random_start_error_1000_labels:.1%} / "
        "{random_start_error_10000_labels:.2%} / "
        "{random_start_error_60000_labels:.2%}",
    ),
    (
        "mnist-vae",
        "test NLL in nats, {importance_samples:,} samples; active units",
        "86.76; 19, after 3,280 epochs (Burda et al. 2016)",
        "{negative_log_likelihood:.2f}; {active_units:.0f}",
    ),
    (
        "mnist-iwae",
        "test NLL in nats, {importance_samples:,} samples, and active units, trained "
        "with k = 1; 5; 50",
        "86.76, 19; 85.54, 22; 84.78, 25, after 3,280 epochs (Burda et al. 2016)",
        "{negative_log_likelihood_1_samples:.2f}, {active_units_1_samples:.0f}; "
        "{negative_log_likelihood_5_samples:.2f}, {active_units_5_samples:.0f}; "
        "{negative_log_likelihood_50_samples:.2f}, {active_units_50_samples:.0f}",
    ),
    (
        "mnist-vampprior",
        "NLL in nats of {test_digits:,} test digits, {importance_samples:,} samples: "
        "VampPrior; N(0, I)",
        "82.43; 84.45, gated networks (Norouzi et al. 2020)",
        "{vampprior_negative_log_likelihood:.2f}; "
        "{gaussian_negative_log_likelihood:.2f}",
    ),
    (
        "mnist-cvae",
        "test NLL in nats, {importance_samples:,} samples, given the label; without; "
        "VAE; samples that a classifier reads as the digit asked for",
        "",
        "{negative_log_likelihood_given_label:.2f}; {negative_log_likelihood:.2f}; "
        "{vae_negative_log_likelihood:.2f}; {samples_read_as_asked:.1%}",
    ),
    (
        "fashion-vae",
        "test NLL in nats of binarised pictures, {importance_samples:,} samples",
        "228.70, gated networks (Norouzi et al. 2020)",
        "{negative_log_likelihood:.2f}",
    ),
    (
        "mnist-vqvae",
        "mean squared error of a test digit's pixels, 128 codes of 16; codes in use; "
        "samples through a PixelCNN that a classifier is more than 90 % sure of",
        "0.0043 (a documented Keras example)",
        "{mse:.4f}; {used_codes:.0%}; {recognised_samples:.1%}",
    ),
    (
        "mnist-samplers",
        "Fréchet distance of {samples:,} samples in features of a classifier trained "
        "on the data, codes drawn from a normal distribution of each dimension / with "
        "covariances / a mixture of ten / a flow / a second VAE",
        "a mixture takes most of the distance away (Ghosh et al. 2020)",
        "AE {ae_normal:.0f} / {ae_gaussian:.0f} / {ae_mixture:.0f} / {ae_maf:.0f} / "
        "{ae_two_stage:.0f}; RAE {rae_normal:.0f} / {rae_gaussian:.0f} / "
        "{rae_mixture:.0f} / {rae_maf:.0f} / {rae_two_stage:.0f}; VAE "
        "{vae_normal:.0f} / {vae_gaussian:.0f} / {vae_mixture:.0f} / {vae_maf:.0f} / "
        "{vae_two_stage:.0f}, prior {vae_prior:.0f}, VampPrior {vae_vampprior:.0f}",
    ),
    (
        "mnist-latent-flow",
        "Fréchet distance of {samples:,} samples in features of a classifier trained "
        "on the data, codes of an autoencoder drawn by a rectified flow; by class; "
        "by class, guided by 1.5; by a mixture of ten; reconstructions; samples read "
        "as the class asked for",
        "",
        "{flow_frechet_distance:.1f}; {flow_of_classes_frechet_distance:.1f}; "
        "{flow_guided_frechet_distance:.1f}; {mixture_frechet_distance:.1f}; "
        "{reconstructions_frechet_distance:.1f}; "
        "{flow_of_classes_read_as_asked:.1%}",
    ),
    (
        "moon-latent-flow",
        "how far phase, tilt, size or place of {samples:,} samples are at most from "
        "those of training moons (Kolmogorov-Smirnov): drawn by a rectified flow; by a "
        "mixture of ten; by a VAE's prior; test moons; their reconstructions",
        "",
        "{flow_farthest:.3f}; {mixture_farthest:.3f}; {prior_farthest:.3f}; "
        "{test_moons_farthest:.3f}; {reconstructions_farthest:.3f}",
    ),
    (
        "mnist-gan",
        "rarest and commonest digit among {samples:,} samples, as a classifier of "
        "{classifier_accuracy:.1%} accuracy reads them; even would be 10 %",
        "",
        "{rarest_digit_share:.1%}; {commonest_digit_share:.1%}",
    ),
    (
        "fashion-wgan",
        "Fréchet distance of samples to test pictures, in features of a classifier "
        "trained on the data; that of training pictures",
        "",
        "{samples_frechet_distance:.1f}; {training_pictures_frechet_distance:.1f}",
    ),
    (
        "mnist-aae",
        "test error with {labelled:,} labels",
        "1.60 % (Makhzani et al. 2015)",
        "{test_error:.2%}",
    ),
    (
        "mnist-missing",
        "mean squared error on missing pixels of test digits, 10 / 30 / 50 / 70 / 90 % "
        "of them missing, means of three seeds",
        "variational auto-decoder below VAE throughout (Zadeh et al. 2019)",
        "VariationalAutoDecoder {vad_mse_10_percent:.4f} / {vad_mse_30_percent:.4f} / "
        "{vad_mse_50_percent:.4f} / {vad_mse_70_percent:.4f} / "
        "{vad_mse_90_percent:.4f}; VAE {vae_mse_10_percent:.4f} / "
        "{vae_mse_30_percent:.4f} / {vae_mse_50_percent:.4f} / "
        "{vae_mse_70_percent:.4f} / {vae_mse_90_percent:.4f}",
    ),
    (
        "fashion-vad",
        "ELBO in nats of 1,000 test pictures, a log-density; mean squared error on the "
        "half of their pixels that is missing, that of all pixels where none is",
        "",
        "{elbo:.0f}; {missing_mse:.4f}, {mse:.4f}",
    ),
    (
        "mnist-glo",
        "Fréchet distance of samples from a Gaussian and from a mixture of the codes, "
        "in features of a classifier trained on the data; that of training digits",
        "",
        "{gaussian_frechet_distance:.1f}, {mixture_frechet_distance:.1f}; "
        "{training_digits_frechet_distance:.1f}",
    ),
    (
        "mnist-oneclass",
        "AUROC of the other nine digits, mean over ten that alone are normal and "
        "three seeds; of the pixels of a stroke; false alarms where 1 / 5 / 10 % "
        "are asked for",
        "0.948, Deep SVDD; 0.897, convolutional AE (Ruff et al. 2018)",
        "{auroc:.4f}; {map_auroc:.3f}; {false_alarms_at_1_percent:.1%} / "
        "{false_alarms_at_5_percent:.1%} / {false_alarms_at_10_percent:.1%}",
    ),
    (
        "fashion-oneclass",
        "the same of clothing",
        "",
        "{auroc:.4f}; {map_auroc:.3f}; {false_alarms_at_1_percent:.1%} / "
        "{false_alarms_at_5_percent:.1%} / {false_alarms_at_10_percent:.1%}",
    ),
    (
        "moon-eclipse",
        "AUROC of moons with a bite; of the bite's pixels; false alarms, and bites "
        "found, where 1 / 5 / 10 % false alarms are asked for",
        "",
        "{auroc:.4f}; {map_auroc:.3f}; {false_alarms_at_1_percent:.1%} / "
        "{false_alarms_at_5_percent:.1%} / {false_alarms_at_10_percent:.1%}, "
        "{found_at_1_percent:.0%} / {found_at_5_percent:.0%} / "
        "{found_at_10_percent:.0%}",
    ),
    (
        "series-anomalies",
        "AUROC of windows of a series with a fault; of the fault's steps; false "
        "alarms, and faults found, where 1 / 5 / 10 % false alarms are asked for; "
        "AUROC of a stock's weeks in the autumn of 2008",
        "",
        "{auroc:.4f}; {where_auroc:.3f}; {false_alarms_at_1_percent:.1%} / "
        "{false_alarms_at_5_percent:.1%} / {false_alarms_at_10_percent:.1%}, "
        "{found_at_1_percent:.0%} / {found_at_5_percent:.0%} / "
        "{found_at_10_percent:.0%}; {crisis_auroc:.3f}",
    ),
    (
        "tables-anomalies",
        "AUROC of anomalies in twenty public tables, mean of five splits; false alarms "
        "where 1 / 5 / 10 % are asked for; standard errors from what is to be "
        "expected to those of the tables with least and most",
        "",
        "{auroc:.4f}; {false_alarms_at_1_percent:.1%} / "
        "{false_alarms_at_5_percent:.1%} / {false_alarms_at_10_percent:.1%}; "
        "{least_excess_at_1_percent:+.1f} to {most_excess_at_1_percent:+.1f}, "
        "{least_excess_at_5_percent:+.1f} to {most_excess_at_5_percent:+.1f}, "
        "{least_excess_at_10_percent:+.1f} to {most_excess_at_10_percent:+.1f}",
    ),
    (
        "moon-factorvae",
        "mutual information gap of five factors, means of three seeds",
        "",
        "FactorVAE {factorvae_gap:.3f} ± {factorvae_gap_deviation:.3f}, VAE "
        "{vae_gap:.3f} ± {vae_gap_deviation:.3f}",
    ),
    (
        "moon-betatcvae",
        "mutual information gap of five factors and mean squared error, means of three "
        "seeds",
        "",
        "BetaTCVAE {betatcvae_gap:.3f} ± {betatcvae_gap_deviation:.3f}, "
        "{betatcvae_mse:.5f}; BetaVAE {betavae_gap:.3f} ± "
        "{betavae_gap_deviation:.3f}, {betavae_mse:.5f}; VAE {vae_gap:.3f} ± "
        "{vae_gap_deviation:.3f}, {vae_mse:.5f}",
    ),
    (
        "moon-incremental",
        "{new_moons:,} new moons learnt later: their error above that of training from "
        "scratch, and growth of the old moons' error",
        "",
        "fine-tuned with replay {fine_tuned_new_mse_above_from_scratch:+.0%}, "
        "{fine_tuned_old_growth:+.1%}",
    ),
    (
        "mnist-between-codes",
        "squared error of own and of test digits, AE of 500, of 50,000; share of codes "
        "at random that decode to one digit for sure, of 50,000: AE, DenoisingAE, VAE",
        "",
        "{ae_500_train_mse:.4f} and {ae_500_test_mse:.4f}, "
        "{ae_50000_train_mse:.4f} and {ae_50000_test_mse:.4f}; "
        "{ae_50000_random:.0%}, {denoisingae_50000_random:.0%}, "
        "{vae_50000_random:.0%}",
    ),
    (
        "faces-and-others",
        "PSNR in dB of held-back faces and digits packed into about 30 bytes each by a "
        "model of faces, by one of digits; JPEG of no more; AUROC of digits and "
        "photographs among faces by the density of codes",
        "",
        "faces {faces_on_faces_packed_psnr:.1f}, {digits_on_faces_packed_psnr:.1f}; "
        "{faces_on_faces_jpeg_psnr:.1f}; digits {faces_on_digits_packed_psnr:.1f}, "
        "{digits_on_digits_packed_psnr:.1f}; {digits_on_digits_jpeg_psnr:.1f}; "
        "{faces_on_digits_auroc_by_code:.3f} and "
        "{faces_on_photographs_auroc_by_code:.3f}",
    ),
    (
        "mnist-deep-cnn",
        "share of test digits that a CNN of 4 / 12 / 20 convolutions gets wrong, by "
        "how it starts, means of three seeds",
        "",
        "; ".join(
            f"{how} {{{way}_4_error:.1f}} / {{{way}_12_error:.1f}} / "
            f"{{{way}_20_error:.1f}} %"
            for way, how in (
                ("poor", "poorly"),
                ("greedy", "pretrained greedily"),
                ("good", "with the right variance"),
                ("batch_norm", "poorly, batch normalised"),
                ("residual", "poorly, residual"),
            )
        ),
    ),
    (
        "mnist-kl",
        "mean σ of the posteriors as a share of their codes' deviation, β = 0 and 1; "
        "KL in nats and squared error of a code of one number, of three",
        "",
        "{beta_0_noise:.2f} and {beta_1_noise:.2f}; {one_number_kl:.2f} and "
        "{one_number_mse:.4f}, {three_numbers_kl:.2f} and {three_numbers_mse:.4f}",
    ),
    (
        "plane-vae",
        "log p(x) in nats of test points of a spiral, by integration over the codes; "
        "of a mixture of 8 / 32 Gaussians",
        "",
        "{log_likelihood:.2f}; {mixture_8_log_likelihood:.2f} / "
        "{mixture_32_log_likelihood:.2f}",
    ),
    (
        "faces-or-background",
        "share that a classifier takes for faces: held-back faces, sharp and blurred; "
        "pictures without a face; samples, 32 px, of GAN, VAE-GAN, WAE, VAE, AE with a "
        "mixture",
        "",
        "{faces_taken_for_faces:.1%}, {blurred_faces_taken_for_faces:.1%}; corners "
        "{corners_taken_for_faces:.1%}, shuffled {shuffled_taken_for_faces:.1%}, "
        "photographs {photographs_taken_for_faces:.1%}; {gan_taken_for_faces:.0%}, "
        "{vaegan_taken_for_faces:.0%}, {wae_taken_for_faces:.0%}, "
        "{vae_taken_for_faces:.0%}, {ae_taken_for_faces:.0%}",
    ),
    (
        "celeba-ae",
        "mean squared error per value on held-back faces, 64 px, code of 128",
        "",
        "{mse:.5f}; PCA {pca_mse:.5f}",
    ),
    (
        "celeba-dae",
        "PSNR in dB of 200 held-back faces with Gaussian noise of 0.5",
        "",
        "{psnr_autoencoder:.1f}; blurred {psnr_blurred:.1f}; non-local means "
        "{psnr_non_local_means:.1f}; noisy {psnr_noisy:.1f}",
    ),
    (
        "celeba-vae",
        "the same for the VAE; ELBO in nats, a log-density",
        "",
        "{mse:.5f}; {elbo:.0f}",
    ),
    (
        "celeba-vqvae",
        "mean squared error per value of held-back faces, {bits:.0f} bits each",
        "",
        "{mse:.5f}",
    ),
    (
        "celeba-glo",
        "the same for GLO on 256 held-back faces, whose codes are searched for",
        "",
        "{mse:.5f}",
    ),
    (
        "celeba-wae",
        "the same for the WAE, code of 64; sharpness that its reconstructions keep",
        "",
        "{mse:.5f}; {sharpness:.0%}",
    ),
    (
        "celeba-gan",
        "how much samples vary, 1 as faces do; share of held-back faces and samples "
        "that the discriminator tells apart",
        "",
        "{diversity:.2f}; {discriminator_accuracy:.0%}",
    ),
    (
        "celeba-vaegan",
        "held-back faces' sharpness kept by reconstructions / samples, and their "
        "Fréchet distance in features of an attribute classifier; `celeba-vae`",
        "",
        "{vaegan_reconstructions_sharpness:.0%} / {vaegan_samples_sharpness:.0%}, "
        "{vaegan_reconstructions_frechet_distance:.1f} / "
        "{vaegan_samples_frechet_distance:.1f}; VAE "
        "{vae_reconstructions_sharpness:.0%} / {vae_samples_sharpness:.0%}, "
        "{vae_reconstructions_frechet_distance:.1f} / "
        "{vae_samples_frechet_distance:.1f}",
    ),
    (
        "celeba-klae",
        "held-back faces: PSNR of reconstructions in dB; sharpness kept by them, by "
        "samples of a flow / of a mixture of codes; Fréchet distances in features of "
        "an attribute classifier",
        "",
        "{klae_psnr:.1f}; {klae_reconstructions_sharpness:.0%}, "
        "{klae_samples_flow_sharpness:.0%} / {klae_samples_mixture_sharpness:.0%}; "
        "{klae_reconstructions_frechet_distance:.1f}, "
        "{klae_samples_flow_frechet_distance:.1f} / "
        "{klae_samples_mixture_frechet_distance:.1f}",
    ),
    (
        "celeba-vqgan",
        "the same for tokens, of {bits:.0f} bits a face, that a PixelCNN draws",
        "",
        "{vqgan_psnr:.1f}; {vqgan_reconstructions_sharpness:.0%}, "
        "{vqgan_samples_pixelcnn_sharpness:.0%}; "
        "{vqgan_reconstructions_frechet_distance:.1f}, "
        "{vqgan_samples_pixelcnn_frechet_distance:.1f}",
    ),
    (
        "celeba-latent-flow",
        "Fréchet distance of reconstructions, and of samples by a flow / a masked "
        "autoregressive flow / a mixture; the flow's precision and recall; share of "
        "attributes that a classifier reads as asked, and as they are in faces",
        "",
        "{model_reconstructions_frechet_distance:.1f}, "
        "{model_samples_flow_frechet_distance:.1f} / "
        "{model_samples_maf_frechet_distance:.1f} / "
        "{model_samples_mixture_frechet_distance:.1f}; "
        "{model_samples_flow_precision:.0%}, {model_samples_flow_recall:.0%}; "
        "{guided_by_1_5_read_as_asked:.0%}, {classifier_right:.0%}",
    ),
)


def record(run: Path) -> Path:
    """Writes what is worth keeping of a run; returns the path."""
    # Directories are those of the machine that ran it: of other runs the name is kept.
    text = (run / "settings.json").read_text()
    settings = json.loads(text.replace(f"{run.resolve().parent}/", "runs/"))
    name = settings["recipe"]
    settings["options"].pop("data_dir", None)
    # Where a run goes on is a path of the machine that ran it.
    settings.pop("again", None)
    resumed = settings.pop("command")
    words = settings.pop("first_command", resumed).split()
    skipped = {"--run-dir", "--data-dir"}
    command = [
        word
        for word, before in zip(words, ["", *words], strict=False)
        if word not in (*skipped, "--resume") and before not in skipped
    ]
    # Those of models beside its own lie in folders of the run.
    epochs = {path: epochs_of(path) for path in sorted(run.rglob("history.csv"))}
    kept = {
        "command": " ".join(command),
        **settings,
        # A run may take a model that was trained before.
        "epochs": len(epochs.get(run / "history.csv", ())),
        "training_seconds": round(
            sum(float(epoch["seconds"]) for rows in epochs.values() for epoch in rows)
        ),
        "scores": json.loads((run / "scores.json").read_text()),
    }
    path = HERE / "results" / f"{name}.json"
    path.write_text(json.dumps(kept, indent=2) + "\n")
    return path


def epochs_of(history: Path) -> list[dict[str, str]]:
    """What was logged, epoch by epoch."""
    with history.open(newline="") as file:
        return [*csv.DictReader(file)]


# By the dimensions of an example.
_NOUNS = {1: "rows", 2: "windows", 3: "pictures"}


def results() -> dict[str, dict[str, str]]:
    """What the recorded runs have measured, by recipe."""
    found = {}
    for recipe, what, published, ours in ROWS:
        path = HERE / "results" / f"{recipe}.json"
        if not path.exists():
            continue
        result = json.loads(path.read_text())
        scores = result["scores"]
        environment = result["environment"]
        place = environment.get("device", "cpu")
        if place == "cpu":
            place = environment["machine"].rsplit(", ", 1)[-1]
        noun = _NOUNS[len(result["training"]["image_shape"])]
        epochs, minutes = result["epochs"], round(result["training_seconds"] / 60)
        trained = f"{epochs} epoch{'' if epochs == 1 else 's'}"
        took = f"{f'{minutes} min' if minutes else 'seconds'} on {place}"
        if not epochs:
            trained, took = "a model that was trained before", place
        found[recipe] = {
            "measured": what.format(**scores),
            "published": published,
            "ours": ours.format(**scores),
            "protocol": (
                f"`{result['command']}`: {result['training']['pictures']:,} {noun}, "
                f"{trained}, seed {result['options']['seed']}, {took}, "
                f"{environment['backend']}"
            ),
        }
    return found


def trained_alike() -> dict[str, dict[str, str]]:
    """What `zoo.py` has measured, by model, for those that no recipe shows."""
    models = json.loads((HERE / "results" / "zoo.json").read_text())["models"]
    found = {}
    for name, figures in models.items():
        if "negative_log_likelihood" in figures:
            measured = "NLL in nats of 2,000 binarised test digits, 500 samples"
            key, unit = "negative_log_likelihood", " nats"
            yardstick = "VAE, code of 10" if name in CODE_OF_10 else "VAE"
        else:
            measured = "summed squared error of a test digit"
            key, unit = "summed_squared_error", ""
            yardstick = "VQVAE" if "used_codes" in figures else "AE"
        ours = f"{figures[key]:.2f}{unit}; {yardstick} {models[yardstick][key]:.2f}"
        found[name] = {
            "recipe": "[zoo](../measured/zoo.md)",
            "measured": measured,
            "published": figures["published"],
            "ours": ours,
            "protocol": f"`python benchmarks/zoo.py`: 60,000 pictures, "
            f"{figures['epochs']} epochs, seed {figures['seed']}, {figures['backend']}",
        }
    return found


def receipts() -> dict[str, dict[str, str]]:
    """What trainings as long as papers' came to, by model."""
    path = HERE / "results" / "receipts.json"
    rows: dict[str, list[dict]] = {}
    for name, row in json.loads(path.read_text())["receipts"].items():
        if row["verdict"]:
            model, _, variant = name.replace(", ", " ").partition(" ")
            rows.setdefault(model, []).append({**row, "variant": variant})

    def joined(model, form):
        return "; ".join(form.format(**row).strip(": ") for row in rows[model])

    return {
        model: {
            "recipe": "[receipts](../measured/receipts.md)",
            "measured": joined(model, "{variant}: {measured}"),
            "published": joined(model, "{published}"),
            "ours": joined(model, "{ours}, {verdict}"),
            "protocol": "`python benchmarks/receipts.py`: 60,000 pictures, "
            + joined(model, "{protocol}"),
        }
        for model in rows
    }


def table(header: str, rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    columns = header.count("|") - 1
    lines = [header, "|" + columns * "---|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def models() -> dict[str, dict[str, str]]:
    """What the results say of each model, by name: the recipe and its figures."""
    measured, alike, long = results(), trained_alike(), receipts()
    found = {}
    for name in catalogue.models():
        recipe = SHOWN_BY.get(name, "")
        found[name] = alike.get(name, {"recipe": recipe})
        if recipe in measured:
            found[name] = {"recipe": recipe, **measured[recipe]}
        if name in long:
            both = filter(None, (recipe, long[name]["recipe"]))
            found[name] = {**long[name], "recipe": ", ".join(both)}
    return found


def paper(references: str) -> str:
    """Links to a docstring's references: `[Kingma and Welling 2014](https://…)`."""
    name = r"[A-Z][\w-]+"
    authors = rf"({name}(?:, {name})* and {name}|[^,;]+)"
    found = re.findall(
        rf"(?:^|; )(?:for [^,]+, )?{authors}, [^;]*?(\d{{4}}) \((http[^)]+)\)",
        references,
    )
    return ", ".join(f"[{who} {year}]({link})" for who, year, link in found)


def by_family() -> list[tuple[str, dict[str, str]]]:
    """Models and what their docstrings say, those first that others build upon."""
    order = list(FAMILIES)
    return sorted(
        catalogue.docstrings().items(),
        key=lambda item: (
            order.index(item[1]["family"]),
            len(getattr(keras_ae, item[0]).__mro__),
            item[0],
        ),
    )


def written_anew(text: str, begin: str, content: str, end: str) -> str:
    """A page's text with what stands between two lines replaced."""
    before, rest = text.split(begin)
    _, after = rest.split(end)
    return f"{before}{begin}\n\n{content}\n\n{end}{after}"


def pages() -> dict[Path, str]:
    """The pages of results and of models, with their tables written anew."""
    of_results = table(
        "| recipe | what is measured | published | ours | protocol |",
        ([recipe, *row.values()] for recipe, row in results().items()),
    )
    known = models()
    of_models = table(
        "| model | what it is | paper | recipe | published | ours |",
        (
            [
                f"[`{name}`]({facts['family']}.md#keras_ae.{name})",
                facts["summary"].replace("|", "\\|"),
                paper(facts["paper"]),
                *(known[name].get(key, "") for key in ("recipe", "published", "ours")),
            ]
            for name, facts in by_family()
        ),
    )
    return {
        RESULTS: written_anew(RESULTS.read_text(), BEGIN, of_results, END),
        MODELS: written_anew(MODELS.read_text(), BEGIN_MODELS, of_models, END_MODELS),
    }


def zoo() -> str:
    """What `keras_ae/zoo.json` holds: the recorded figures, as text for a terminal."""
    plain = {
        name: {
            key: re.sub(r"\[(.*?)\]\(\.\./(.*?)\)", r"\1, docs/\2", cell)
            for key, cell in figures.items()
            if cell
        }
        for name, figures in models().items()
    }
    return json.dumps(plain, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    for run in sys.argv[1:]:
        print(record(Path(run)))
    for page, text in pages().items():
        page.write_text(text)
    ZOO.write_text(zoo())
