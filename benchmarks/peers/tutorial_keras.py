"""Slices per second of the tutorial's two Keras networks, one after the other, for speed.py.

    python benchmarks/peers/tutorial_keras.py [--seconds 10]

Needs tensorflow-cpu alone, in an environment of its own. The networks are those that
gliosight/train/networks/resnet.py and resunet.py describe, with random weights: time does not depend on them.
Prints a line of JSON, as unet_torch.py does.
"""

from __future__ import annotations

import argparse
import json
import os
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf
from keras import Input, Model, layers
from keras.applications import ResNet50

SIDE, BATCHES = 256, (1, 4, 16)


def detector() -> Model:
    """ResNet50 with the tutorial's head."""
    trunk = ResNet50(weights=None, include_top=False, input_tensor=Input((SIDE, SIDE, 3)))
    x = layers.Flatten()(layers.AveragePooling2D((4, 4))(trunk.output))
    x = layers.Dropout(0.3)(layers.Dense(256, activation="relu")(x))
    x = layers.Dropout(0.3)(layers.Dense(256, activation="relu")(x))
    return Model(trunk.input, layers.Dense(2, activation="softmax")(x))


def localizer() -> Model:
    """ResUNet."""

    def block(x: object, width: int) -> object:
        y = layers.BatchNormalization()(layers.Conv2D(width, 1, padding="same")(x))
        y = layers.Conv2D(width, 3, padding="same")(layers.Activation("relu")(y))
        short = layers.BatchNormalization()(layers.Conv2D(width, 1, padding="same")(x))
        return layers.Activation("relu")(layers.add([layers.BatchNormalization()(y), short]))

    image = Input((SIDE, SIDE, 3))
    x = image
    for _ in range(2):
        x = layers.BatchNormalization()(layers.Conv2D(16, 3, activation="relu", padding="same")(x))
    levels = []
    for width in (32, 64, 128, 256):
        levels.append(x)
        x = block(layers.MaxPooling2D()(x), width)
    for width, level in zip((128, 64, 32, 16), reversed(levels), strict=True):
        x = block(layers.concatenate([layers.UpSampling2D()(x), level]), width)
    return Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


def main() -> None:
    """Time both networks as compiled functions, which is faster than ``predict`` on few slices."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=10.0)
    seconds = parser.parse_args().seconds
    tf.config.threading.set_intra_op_parallelism_threads(2)
    first, second = detector(), localizer()
    both = tf.function(lambda x: (first(x, training=False), second(x, training=False)))
    speeds = {}
    for batch in BATCHES:
        images = tf.constant(np.random.default_rng(0).random((batch, SIDE, SIDE, 3), np.float32))
        both(images)
        end, best = time.perf_counter() + seconds / len(BATCHES), float("inf")
        while time.perf_counter() < end:
            start = time.perf_counter()
            for answer in both(images):
                answer.numpy()
            best = min(best, time.perf_counter() - start)
        speeds[batch] = batch / best
    print(json.dumps({"library": f"tensorflow {tf.__version__}", "slices/s": max(speeds.values())}))


if __name__ == "__main__":
    main()
