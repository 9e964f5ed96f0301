"""Breaks the package in twenty ways, one at a time: do the tests notice?

    python tests/mutations.py [--tests FOLDER] [NUMBER ...]

Each is one line of the package replaced in a copy, and the tests that must fail then.
`KERAS_BACKEND` says on which backend; PyTorch starts fastest.
"""

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

# What is broken; file, line and what replaces it; the tests, as for pytest.
MUTATIONS = [
    (
        "sign of the KL",
        "probability/divergences.py",
        "ops.expm1(log_ratio) - log_ratio",
        "ops.expm1(log_ratio) + log_ratio",
        "test_divergences.py",
    ),
    (
        "missing stop-gradient: the commitment moves the codebook",
        "models/quantized/vqvae.py",
        "distance(vectors, ops.stop_gradient(codes))",
        "distance(vectors, codes)",
        "test_quantized.py",
    ),
    (
        "missing stop-gradient: codes pass their own gradient on",
        "models/quantized/quantizers.py",
        "return ops.stop_gradient(codes) + (x - ops.stop_gradient(x))",
        "return codes + (x - ops.stop_gradient(x))",
        "test_quantized.py",
    ),
    (
        "an optimizer updates another player's weights",
        "models/adversarial/gan.py",
        "self.terms, self.decoder.trainable_variables,",
        "self.terms, self.trainable_variables,",
        "test_gan.py",
    ),
    (
        "a codebook moves in evaluation",
        "models/quantized/vqvae.py",
        "if training and self.quantizer.trainable:",
        "if self.quantizer.trainable:",
        "test_quantized.py",
    ),
    (
        "evaluation is corrupted too",
        "models/deterministic/denoising.py",
        "self._corrupted(x) if training else x",
        "self._corrupted(x)",
        "test_denoising.py",
    ),
    (
        "the configuration forgets an argument",
        "models/base/autoencoder.py",
        "if parameter.name in self.settled_arguments:",
        'if parameter.name in (*self.settled_arguments, "activation"):',
        "test_contract.py -k config_returns",
    ),
    (
        "a metric off by a factor",
        "metrics/pictures.py",
        "np.mean(-10.0 * np.log10(each))",
        "np.mean(-20.0 * np.log10(each))",
        "test_metrics_pictures.py",
    ),
    (
        "a sampler ignores its seed",
        "models/base/sampling.py",
        "seeds = seed_generator(seed)",
        "seeds = seed_generator(None)",
        "test_contract.py -k saving_keeps",
    ),
    (
        "validation has another objective",
        "models/variational/vae.py",
        '"kl": self.kl_weight * paid,',
        '"kl": (self.kl_weight if training else 1.0) * paid,',
        "test_contract.py -k validation_has",
    ),
    (
        "who sits out a step learns nevertheless",
        "backend/_shared.py",
        "variable.assign(ops.where(condition, variable.value, value))",
        "pass",
        "test_vaegan.py",
    ),
    (
        "sample weights have no effect",
        "training/steps.py",
        "terms = {name: value * weight for name, value in terms.items()}",
        "terms = {**terms}",
        "test_contract.py -k sample_weight_weighs",
    ),
    (
        "the logged loss leaves regularizers out",
        "training/steps.py",
        'terms.append(results["regularization"])',
        "pass",
        "test_contract.py -k regularizers_are",
    ),
    (
        "noise of the variance, not of the standard deviation",
        "nn/layers/noise.py",
        "return mean + ops.exp(0.5 * log_var) * noise",
        "return mean + ops.exp(log_var) * noise",
        "test_vae.py test_priors.py test_conditional.py test_objectives.py",
    ),
    (
        "a running average with its shares swapped",
        "models/adversarial/gan.py",
        "(1 - kept) * weight + kept * average",
        "kept * weight + (1 - kept) * average",
        "test_gan.py",
    ),
    (
        "a codebook that forgets at once",
        "models/quantized/quantizers.py",
        "return self.decay * average + (1 - self.decay) * value",
        "return (1 - self.decay) * average + self.decay * value",
        "test_quantized.py",
    ),
    (
        "pictures are scaled by another number",
        "training/inputs.py",
        'return x / 255.0 if "int" in dtype else x',
        'return x / 256.0 if "int" in dtype else x',
        "test_data_kinds.py test_vae.py test_contract.py",
    ),
    (
        "a density that is not normalised",
        "probability/likelihoods/location_scale.py",
        "return -ops.abs(standardized) - LOG_2 - ops.log(scale)",
        "return -ops.abs(standardized) - ops.log(scale)",
        "test_likelihoods.py",
    ),
    (
        "the bound of one sample, not of several",
        "models/variational/importance_weighted.py",
        "        return _importance_weighted(log_weights)\n",
        "        return ops.mean(log_weights, axis=0)\n",
        "test_importance_weighted.py",
    ),
    (
        "a saved optimizer is compiled anew",
        "training/trainer.py",
        "self.compile(optimizer, **config)",
        "self.compile(None, **config)",
        "test_contract.py -k saving_keeps",
    ),
]


def survives(mutation: tuple[str, ...], tests: Path) -> bool:
    """Whether the tests pass with the mutation."""
    _, file, line, replacement, selection = mutation
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        shutil.copytree(ROOT / "keras_ae", copy / "keras_ae")
        shutil.copytree(ROOT / "recipes", copy / "keras_ae" / "recipes")
        path = copy / "keras_ae" / file
        source = path.read_text()
        if line not in source:
            raise SystemExit(f"{file} has no line `{line}` any more: mend mutations.py")
        path.write_text(source.replace(line, replacement))
        environment = {**os.environ, "PYTHONPATH": folder}
        done = subprocess.run(
            [
                *(sys.executable, "-P", "-m", "pytest", "-x", "-q", "-n", "2"),
                *("-m", "not slow", "-W", "ignore"),
                *selection.replace("-k ", "-k=").split(),
            ],
            cwd=tests,
            env=environment,
            capture_output=True,
            text=True,
        )
    outcome = done.stdout.rstrip().splitlines()[-1] if done.stdout else ""
    if not re.search(r"\d+ (passed|failed|error)", outcome):
        raise SystemExit(done.stdout + done.stderr)
    return done.returncode == 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tests", type=Path, default=ROOT / "tests")
    parser.add_argument("numbers", type=int, nargs="*")
    arguments = parser.parse_args()
    survivors = 0
    for number, mutation in enumerate(MUTATIONS, start=1):
        if arguments.numbers and number not in arguments.numbers:
            continue
        survived = survives(mutation, arguments.tests)
        survivors += survived
        outcome = "SURVIVED" if survived else "caught"
        print(f"{number:2}  {outcome}  {mutation[0]}", flush=True)
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
