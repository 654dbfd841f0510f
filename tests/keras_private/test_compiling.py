import keras

from tfprune.keras_private.compiling import compile_arguments


def test_a_compiled_model_keeps_the_arguments():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    loss = keras.losses.Huber()
    model.compile("sgd", loss, loss_weights=0.5, metrics=["mae"])
    given = compile_arguments(model)
    assert given["loss"] is loss
    assert given["loss_weights"] == 0.5 and given["metrics"] == ["mae"]
