"""The command line, as tests call it."""

import warnings

from click.testing import CliRunner, Result

from keras_ae import cli


def keras_ae_command(*arguments) -> Result:
    """Runs `keras-ae ...`; its warnings are sentences to the user, and no errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        # Keras' own: see pyproject.toml.
        warnings.filterwarnings("ignore", "__array__ implementation doesn't accept")
        return CliRunner().invoke(cli.main, [str(part) for part in arguments])
