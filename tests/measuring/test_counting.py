import keras
from keras import layers

import tfprune


def test_flops_by_hand():
    x = keras.Input((10, 16))
    y = layers.MultiHeadAttention(4, 3)(x, x)
    model = keras.Model(x, layers.Dense(5)(y))
    projections = 4 * 2 * 20 * 16 * 12  # query, key, value, output; 20 positions
    scores = 2 * (2 * 2 * 4 * 10 * 10 * 3)  # scores and their product with the values
    assert tfprune.count_flops(model, batch_size=2) == projections + scores + 2 * 20 * 16 * 5


def test_flops_of_a_convolution():
    x = keras.Input((8, 8, 3))
    model = keras.Model(x, layers.Conv2D(4, 3, padding="same")(x))
    assert tfprune.count_flops(model) == 2 * 8 * 8 * 4 * 3 * 3 * 3


def test_parameters_leave_out_random_states():
    x = keras.Input((4,))
    assert tfprune.count_parameters(keras.Model(x, layers.Dropout(0.5)(layers.Dense(3)(x)))) == 15
