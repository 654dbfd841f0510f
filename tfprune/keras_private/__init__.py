"""The only place that reaches into parts of Keras that are not public.

Each function states what it assumes about Keras; `tests/keras_private` tests each assumption, so
that a Keras that differs fails there, with a clear message, and nowhere else.
"""
