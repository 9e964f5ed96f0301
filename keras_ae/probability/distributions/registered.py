"""What a model is made of, and its file names."""

import keras


class Registered:
    """Base of classes whose instances are saved in a model's file.

    Also those that a user derives load wherever they have been defined.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        # By the package that it lives in: yours may have a `Gaussian` of its own.
        package = cls.__module__.partition(".")[0]
        keras.saving.register_keras_serializable(package)(cls)
