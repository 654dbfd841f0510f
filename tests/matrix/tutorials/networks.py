"""Plain networks with something unusual: lists, lambdas, several outputs."""

import keras
from keras import layers, ops

from tests.matrix.case import BATCH, Case, numbers


def actor_critic():
    """Common features, two outputs."""
    inputs = keras.Input(shape=(4,))
    common = layers.Dense(128, activation="relu")(inputs)
    action = layers.Dense(2, activation="softmax")(common)
    critic = layers.Dense(1)(common)
    return Case(keras.Model(inputs=inputs, outputs=[action, critic]), numbers(4))


def critic_of_state_and_action():
    """Two inputs with layers of their own, joined."""
    state_input, action_input = keras.Input(shape=(6,)), keras.Input(shape=(2,))
    state_out = layers.Dense(16, activation="relu")(state_input)
    state_out = layers.Dense(32, activation="relu")(state_out)
    action_out = layers.Dense(32, activation="relu")(action_input)
    concat = layers.Concatenate()([state_out, action_out])
    out = layers.Dense(64, activation="relu")(concat)
    out = layers.Dense(64, activation="relu")(out)
    model = keras.Model([state_input, action_input], layers.Dense(1)(out))
    return Case(model, [numbers(6), numbers(2)])


def radiance_field():
    """The input comes in again after some layers, and outputs branch off at two depths."""
    inputs = x = keras.Input((8, 27))
    for i in range(6):
        x = layers.Dense(units=48, activation="relu")(x)
        if i % 4 == 0 and i > 0:
            x = layers.concatenate([x, inputs], axis=-1)
    density = layers.Dense(1, activation="relu")(x)
    x = layers.Dense(24, activation="relu")(layers.Dense(48)(x))
    color = layers.Dense(3, activation="sigmoid")(x)
    return Case(keras.Model(inputs, [density, color]), numbers(8, 27))


def lambdas():
    inputs = keras.Input((20,))
    x = layers.Lambda(lambda x: x * 2.0 - 1.0)(inputs)
    x = layers.Dense(64)(x)
    x = layers.Lambda(lambda x: ops.relu(x))(x)
    x = layers.Dense(32, activation="relu")(x)
    x = layers.Lambda(lambda x: ops.concatenate([x, -x], axis=-1))(x)
    return Case(keras.Model(inputs, layers.Dense(3)(x)), numbers(20))


class ResidualBlock(layers.Layer):
    """A list of layers, and functions of TensorFlow between them."""

    def __init__(self, units, depth=2):
        super().__init__()
        self.hidden = [layers.Dense(units, activation="elu") for _ in range(depth)]

    def call(self, inputs):
        import tensorflow as tf

        z = inputs
        for layer in self.hidden:
            z = layer(z)
        return tf.nn.elu(inputs + z)


class ResidualRegressor(keras.Model):
    def __init__(self, output_dim, **kwargs):
        super().__init__(**kwargs)
        self.hidden1 = layers.Dense(30, activation="elu", kernel_initializer="he_normal")
        self.block1 = ResidualBlock(30)
        self.block2 = ResidualBlock(30)
        self.out = layers.Dense(output_dim)

    def call(self, inputs):
        z = self.hidden1(inputs)
        for _ in range(1 + 3):
            z = self.block1(z)
        z = self.block2(z)
        return self.out(z)


def residual_regressor():
    """A block that is called several times."""
    model = ResidualRegressor(1)
    model(numbers(8))
    return Case(model, numbers(8))


class Linear(layers.Layer):
    """The first layer of the guide about layers of one's own."""

    def __init__(self, units=32):
        super().__init__()
        self.units = units

    def build(self, input_shape):
        self.w = self.add_weight(
            shape=(input_shape[-1], self.units), initializer="random_normal", trainable=True
        )
        self.b = self.add_weight(shape=(self.units,), initializer="random_normal", trainable=True)

    def call(self, inputs):
        return ops.matmul(inputs, self.w) + self.b


class MLPBlock(layers.Layer):
    def __init__(self):
        super().__init__()
        self.linear_1 = Linear(32)
        self.linear_2 = Linear(32)
        self.linear_3 = Linear(1)

    def call(self, inputs):
        x = self.linear_1(inputs)
        x = keras.activations.relu(x)
        x = self.linear_2(x)
        x = keras.activations.relu(x)
        return self.linear_3(x)


def own_layers():
    inputs = keras.Input((16,))
    return Case(keras.Model(inputs, MLPBlock()(inputs)), numbers(16))


class CustomModel(keras.Model):
    """A Functional model with a training step of its own."""

    def train_step(self, data):
        import tensorflow as tf

        x, y = data
        with tf.GradientTape() as tape:
            loss = self.compute_loss(y=y, y_pred=self(x, training=True))
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply(gradients, self.trainable_variables)
        return {"loss": loss}


def own_train_step():
    inputs = keras.Input(shape=(32,))
    x = layers.Dense(64, activation="relu")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Dense(32, activation="relu")(x)
    model = CustomModel(inputs, layers.Dense(1)(x))
    model.compile(optimizer="adam", loss="mse")
    return Case(model, numbers(32))


def tickets():
    """Three inputs and two named outputs."""
    title = keras.Input((None,), name="title", dtype="int32")
    body = keras.Input((None,), name="body", dtype="int32")
    tags = keras.Input((12,), name="tags")
    title_features = layers.LSTM(16)(layers.Embedding(40, 16)(title))
    body_features = layers.LSTM(8)(layers.Embedding(40, 16)(body))
    x = layers.concatenate([title_features, body_features, tags])
    x = layers.Dense(64, activation="relu")(x)
    outputs = {
        "priority": layers.Dense(1, name="priority")(x),
        "department": layers.Dense(4, name="department")(x),
    }
    model = keras.Model([title, body, tags], outputs)
    words = (numbers(6) * 39).astype("int32")
    return Case(model, [words, words[:, ::-1].copy(), numbers(12)])


class PhysicsNetwork(keras.Model):
    """tanh layers in a list, a scaled input and a trained coefficient."""

    def __init__(self):
        super().__init__()
        self.hidden = [layers.Dense(20, activation="tanh") for _ in range(4)]
        self.last = layers.Dense(1)
        self.viscosity = self.add_weight(name="viscosity", initializer="ones")

    def call(self, xt):
        x, t = ops.split(xt, 2, axis=-1)
        h = ops.concatenate([2 * x - 1, ops.sin(t), ops.cos(t)], axis=-1)
        for layer in self.hidden:
            h = layer(h)
        return self.last(h) * self.viscosity


def physics():
    model = PhysicsNetwork()
    model(numbers(2))
    return Case(model, numbers(2))


def mixture_of_experts():
    """Dense experts and a softmax that weighs them."""
    inputs = keras.Input((16,))
    experts = [layers.Dense(8)(layers.Dense(32, activation="relu")(inputs)) for _ in range(3)]
    stacked = layers.Lambda(lambda x: ops.stack(x, axis=1))(experts)
    gate = layers.Dense(3, activation="softmax")(inputs)
    mixed = layers.Dot(axes=1)([gate, stacked])
    model = keras.Model(inputs, layers.Dense(1)(layers.Dense(32, "swish")(mixed)))
    assert model(numbers(16)).shape == (BATCH, 1)
    return Case(model, numbers(16))


MODELS = {
    "Actor and critic": actor_critic,
    "Critic of state and action": critic_of_state_and_action,
    "Radiance field": radiance_field,
    "Lambda layers": lambdas,
    "Residual regressor": residual_regressor,
    "Layers of one's own": own_layers,
    "Training step of one's own": own_train_step,
    "Tickets": tickets,
    "Physics": physics,
    "Mixture of experts": mixture_of_experts,
}
