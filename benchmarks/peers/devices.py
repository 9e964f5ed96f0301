"""What a contestant computed on, and how much memory of it was in use at most."""


def tensorflow():
    import tensorflow as tf

    cards = tf.config.list_physical_devices("GPU")
    if not cards:
        return {"device": "cpu", "device_bytes": None}
    name = tf.config.experimental.get_device_details(cards[0]).get("device_name")
    peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    return {"device": name or "gpu", "device_bytes": peak}


def jax():
    import jax

    device = jax.devices()[0]
    memory = device.memory_stats() or {}
    return {
        "device": device.device_kind,
        "device_bytes": memory.get("peak_bytes_in_use"),
    }


def torch():
    import torch

    if not torch.cuda.is_available():
        return {"device": "cpu", "device_bytes": None}
    return {
        "device": torch.cuda.get_device_name(0),
        "device_bytes": torch.cuda.max_memory_allocated(),
    }
