"""How large and how fast a model is: parameters, operations, and time in LiteRT."""
