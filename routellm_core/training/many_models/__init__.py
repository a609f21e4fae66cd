"""``mf`` over more than two models: a vector each, fitted together from comparisons among them."""
