"""How a student is trained: loss and learning rate."""

from __future__ import annotations

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable("tfprune")
class WordCrossEntropy(keras.losses.Loss):
    """Cross-entropy of each word, from logits; the mean over words counts no padding.

    Args:
        label_smoothing: Share of the probability that goes to all words alike.
    """

    def __init__(self, label_smoothing: float = 0.0, name: str = "cross_entropy", **kwargs: Any):
        kwargs.setdefault("reduction", "mean_with_sample_weight")
        super().__init__(name=name, **kwargs)
        self.label_smoothing = label_smoothing

    def call(self, y_true: Any, y_pred: Any) -> Any:
        """`(B, T)` ids and `(B, T, V)` logits to `(B, T)` losses."""
        loss = keras.losses.sparse_categorical_crossentropy(y_true, y_pred, from_logits=True)
        if self.label_smoothing:
            uniform = -ops.mean(ops.log_softmax(y_pred, axis=-1), axis=-1)
            loss = (1 - self.label_smoothing) * loss + self.label_smoothing * uniform
        return loss

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return {**super().get_config(), "label_smoothing": self.label_smoothing}


@keras.saving.register_keras_serializable("tfprune")
class InverseSquareRoot(keras.optimizers.schedules.LearningRateSchedule):
    """Rises linearly to `peak` over `warmup_steps`, then falls with the root of the step.

    Source: Vaswani et al., "Attention Is All You Need", 2017, equation 3.
    """

    def __init__(self, peak: float = 1e-3, warmup_steps: int = 400):
        self.peak = peak
        self.warmup_steps = warmup_steps

    def __call__(self, step: Any) -> Any:
        """The learning rate at a step."""
        step = ops.cast(step, "float32") + 1.0
        warmup = float(self.warmup_steps)
        return self.peak * ops.minimum(step / warmup, ops.sqrt(warmup / step))

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return {"peak": self.peak, "warmup_steps": self.warmup_steps}


def compile_student(
    model: keras.Model,
    learning_rate: float = 2e-3,
    warmup_steps: int = 400,
    label_smoothing: float = 0.0,
    jit_compile: bool | str = "auto",
    total_steps: int | None = None,
) -> keras.Model:
    """Compiles a student as the papers train theirs: Adam, inverse-square-root learning rate.

    Give `total_steps` in the last stage of training: weights settle while the rate falls to 0.

    Args:
        model: A student.
        learning_rate: The highest learning rate.
        warmup_steps: Steps until it is reached.
        label_smoothing: 0 for students that learn from a teacher.
        jit_compile: As in `compile`.
        total_steps: With it the rate falls as half a cosine and is 0 after that many steps.

    Returns:
        The model.

    Raises:
        ValueError: If an argument is out of range.
    """
    if not learning_rate > 0 or warmup_steps < 1 or not 0 <= label_smoothing < 1:
        raise ValueError(
            "`learning_rate` must be positive, `warmup_steps` at least 1 and `label_smoothing` in "
            f"[0, 1). Received: {learning_rate}, {warmup_steps}, {label_smoothing}"
        )
    if total_steps is None:
        rate = InverseSquareRoot(learning_rate, warmup_steps)
    elif total_steps > warmup_steps:
        rate = keras.optimizers.schedules.CosineDecay(
            0.0, total_steps - warmup_steps, warmup_target=learning_rate, warmup_steps=warmup_steps
        )
    else:
        raise ValueError(
            "`total_steps` must be more than `warmup_steps`. "
            f"Received: total_steps={total_steps}, warmup_steps={warmup_steps}"
        )
    optimizer = keras.optimizers.Adam(rate, beta_2=0.98, epsilon=1e-9)
    model.compile(optimizer, WordCrossEntropy(label_smoothing), jit_compile=jit_compile)
    return model


def without_dropout(model: keras.Model) -> keras.Model:
    """Sets the rate of a student's dropout layers to 0; gives the student."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout):
            layer.rate = 0.0
    return model
