"""Convolutions, autoencoders and generators."""

import keras
from keras import layers, ops

from tests.matrix.case import Case, numbers


def small_convnet():
    model = keras.Sequential(
        [
            keras.Input(shape=(12, 12, 1)),
            layers.Conv2D(8, kernel_size=(3, 3), activation="relu"),
            layers.MaxPooling2D(pool_size=(2, 2)),
            layers.Conv2D(16, kernel_size=(3, 3), activation="relu"),
            layers.Flatten(),
            layers.Dense(64, activation="relu"),
            layers.Dropout(0.5),
            layers.Dense(10, activation="softmax"),
        ]
    )
    return Case(model, numbers(12, 12, 1))


class Sampling(layers.Layer):
    """Uses (z_mean, z_log_var) to sample z; the mean itself outside training."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = keras.random.SeedGenerator(1337)

    def call(self, inputs, training=False):
        z_mean, z_log_var = inputs
        if not training:
            return z_mean
        epsilon = keras.random.normal(shape=ops.shape(z_mean), seed=self.seed_generator)
        return z_mean + ops.exp(0.5 * z_log_var) * epsilon


class VAE(keras.Model):
    """Two models inside a model with its own training step and metrics."""

    def __init__(self, encoder, decoder, **kwargs):
        super().__init__(**kwargs)
        self.encoder = encoder
        self.decoder = decoder
        self.total_loss_tracker = keras.metrics.Mean(name="total_loss")

    @property
    def metrics(self):
        return [self.total_loss_tracker]

    def call(self, data):
        _, _, z = self.encoder(data)
        return self.decoder(z)

    def train_step(self, data):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            z_mean, z_log_var, z = self.encoder(data, training=True)
            reconstruction = self.decoder(z)
            loss = ops.mean(keras.losses.binary_crossentropy(data, reconstruction))
            loss -= 0.5 * ops.mean(1 + z_log_var - ops.square(z_mean) - ops.exp(z_log_var))
        grads = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(grads, self.trainable_weights, strict=True))
        self.total_loss_tracker.update_state(loss)
        return {"loss": self.total_loss_tracker.result()}


def vae():
    encoder_inputs = keras.Input(shape=(8, 8, 1))
    x = layers.Conv2D(8, 3, activation="relu", strides=2, padding="same")(encoder_inputs)
    x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu")(x)
    z_mean = layers.Dense(2, name="z_mean")(x)
    z_log_var = layers.Dense(2, name="z_log_var")(x)
    z = Sampling()([z_mean, z_log_var])
    encoder = keras.Model(encoder_inputs, [z_mean, z_log_var, z], name="encoder")
    latent_inputs = keras.Input(shape=(2,))
    x = layers.Dense(4 * 4 * 8, activation="relu")(latent_inputs)
    x = layers.Reshape((4, 4, 8))(x)
    x = layers.Conv2DTranspose(8, 3, activation="relu", strides=2, padding="same")(x)
    decoder_outputs = layers.Conv2DTranspose(1, 3, activation="sigmoid", padding="same")(x)
    decoder = keras.Model(latent_inputs, decoder_outputs, name="decoder")
    model = VAE(encoder, decoder)
    model(numbers(8, 8, 1))
    model.compile("adam")
    return Case(model, numbers(8, 8, 1))


class Autoencoder(keras.Model):
    def __init__(self, latent_dim, shape):
        super().__init__()
        self.encoder = keras.Sequential(
            [layers.Flatten(), layers.Dense(latent_dim, activation="relu")]
        )
        self.decoder = keras.Sequential(
            [layers.Dense(shape[0] * shape[1], activation="sigmoid"), layers.Reshape(shape)]
        )

    def call(self, x):
        encoded = self.encoder(x)
        return self.decoder(encoded)


def autoencoder():
    model = Autoencoder(32, (8, 8))
    model(numbers(8, 8))
    return Case(model, numbers(8, 8))


def anomaly_detector():
    """Dense layers that narrow and widen."""
    x = inputs = keras.Input((48,))
    for units in (32, 16, 8, 16, 32):
        x = layers.Dense(units, activation="relu")(x)
    return Case(keras.Model(inputs, layers.Dense(48, activation="sigmoid")(x)), numbers(48))


def siamese():
    """One network for three images, and a layer for their distances."""

    class DistanceLayer(layers.Layer):
        def call(self, anchor, positive, negative):
            ap_distance = ops.sum(ops.square(anchor - positive), -1)
            an_distance = ops.sum(ops.square(anchor - negative), -1)
            return ap_distance, an_distance

    image = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, activation="relu")(image)
    x = layers.Flatten()(x)
    x = layers.Dense(64, activation="relu")(x)
    x = layers.BatchNormalization()(x)
    x = layers.Dense(32, activation="relu")(x)
    x = layers.BatchNormalization()(x)
    embedding = keras.Model(image, layers.Dense(16)(x), name="Embedding")
    inputs = [keras.Input((8, 8, 3), name=n) for n in ("anchor", "positive", "negative")]
    distances = DistanceLayer()(*[embedding(x) for x in inputs])
    model = keras.Model(inputs, distances)
    return Case(model, [numbers(8, 8, 3, seed=s) for s in range(3)])


class GAN(keras.Model):
    """Trained in turns; called, it judges what the generator makes."""

    def __init__(self, discriminator, generator):
        super().__init__()
        self.discriminator = discriminator
        self.generator = generator

    def compile(self, d_optimizer, g_optimizer, loss_fn):
        super().compile()
        self.d_optimizer = d_optimizer
        self.g_optimizer = g_optimizer
        self.loss_fn = loss_fn

    def call(self, noise):
        return self.discriminator(self.generator(noise))


def gan():
    leaky = {"negative_slope": 0.2}
    discriminator = keras.Sequential(
        [
            keras.Input((8, 8, 1)),
            layers.Conv2D(8, 3, strides=2, padding="same"),
            layers.LeakyReLU(**leaky),
            layers.GlobalMaxPooling2D(),
            layers.Dense(64),
            layers.LeakyReLU(**leaky),
            layers.Dense(1),
        ]
    )
    generator = keras.Sequential(
        [
            keras.Input((16,)),
            layers.Dense(4 * 4 * 8),
            layers.LeakyReLU(**leaky),
            layers.Reshape((4, 4, 8)),
            layers.Conv2DTranspose(8, 4, strides=2, padding="same"),
            layers.LeakyReLU(**leaky),
            layers.Conv2D(1, 7, padding="same", activation="sigmoid"),
        ]
    )
    model = GAN(discriminator, generator)
    model(numbers(16))
    return Case(model, numbers(16))


def squeeze_and_excite():
    """A residual network whose blocks weigh their channels with dense layers."""
    inputs = keras.Input((16, 16, 3))
    x = layers.Conv2D(16, 3, padding="same")(inputs)
    for _ in range(2):
        y = layers.Conv2D(16, 3, padding="same", use_bias=False)(x)
        y = layers.BatchNormalization()(y)
        y = layers.Activation("relu")(y)
        s = layers.GlobalAveragePooling2D(keepdims=True)(y)
        s = layers.Dense(8, activation="relu", use_bias=False)(s)
        s = layers.Dense(16, activation="sigmoid", use_bias=False)(s)
        x = layers.add([x, layers.multiply([y, s])])
    x = layers.GlobalAveragePooling2D()(x)
    return Case(keras.Model(inputs, layers.Dense(10, "softmax")(x)), numbers(16, 16, 3))


MODELS = {
    "Small convnet": small_convnet,
    "VAE": vae,
    "Autoencoder": autoencoder,
    "Anomaly detector": anomaly_detector,
    "Siamese network": siamese,
    "GAN": gan,
    "Squeeze and excite": squeeze_and_excite,
}
