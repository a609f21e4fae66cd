"""A BERT encoder with mean pooling as an ONNX graph, built from its safetensors weights.

The packages that carry all-MiniLM-L6-v2 offline hold PyTorch weights only, and exporting needs torch. Six identical
layers of eleven operations are simpler to write down than to export.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from routellm_core._optional import import_extra

__all__ = ["bert_onnx_model"]

_OPSET = 20  # the first with Gelu
_IR_VERSION = 9
_Weights = Mapping[str, npt.NDArray[np.float32]]


def bert_onnx_model(weights: _Weights, *, layers: int, heads: int, epsilon: float) -> bytes:
    """Build the graph and return it serialised, weights included.

    Inputs: ``input_ids`` (B, T) int64; ``positions`` (T,) int64; ``attention_bias`` (B, 1, 1, T) float32, 0 for a token
    and a large negative number for padding; ``pooling`` (B, 1, T) float32, the weight of each token in the mean.
    Output: ``pooled`` (B, 1, H) float32.

    Args:
        weights: BERT's parameters under their Hugging Face names.
        layers: number of encoder layers.
        heads: attention heads per layer.
        epsilon: of the layer normalisations.

    Raises:
        MissingExtraError: the package onnx is not installed.
        KeyError: a parameter is missing from ``weights``.
    """
    onnx = import_extra("onnx", extra="minilm", purpose="The MiniLM embedder")
    graph = _Graph(onnx, weights, heads=heads, epsilon=epsilon)
    hidden = graph.embeddings()
    for layer in range(layers):
        hidden = graph.layer(hidden, f"encoder.layer.{layer}")
    graph.node("MatMul", ["pooling", hidden], output="pooled")
    model = graph.model()
    serialised: bytes = model.SerializeToString()
    return serialised


class _Graph:
    """Nodes and constants collected while the graph is written down; names are given in order."""

    def __init__(self, onnx: Any, weights: _Weights, *, heads: int, epsilon: float) -> None:
        self._onnx = onnx
        self._weights = weights
        self._heads = heads
        self._epsilon = epsilon
        self._nodes: list[Any] = []
        self._constants: list[Any] = []

    def node(self, operation: str, inputs: list[str], *, output: str | None = None, **attributes: Any) -> str:
        """Append an operation with one output and return the output's name."""
        name = output or f"v{len(self._nodes)}"
        self._nodes.append(self._onnx.helper.make_node(operation, inputs, [name], **attributes))
        return name

    def constant(self, value: npt.NDArray[Any]) -> str:
        """Add a constant and return its name."""
        name = f"c{len(self._constants)}"
        self._constants.append(self._onnx.numpy_helper.from_array(np.ascontiguousarray(value), name))
        return name

    def embeddings(self) -> str:
        """Word, position and segment embeddings, normalised; (B, T, H)."""
        prefix = "embeddings"
        words = self.constant(self._weights[f"{prefix}.word_embeddings.weight"])
        # Every token belongs to segment 0, so its vector is added to the positions once and for all.
        positions = self.constant(
            self._weights[f"{prefix}.position_embeddings.weight"]
            + self._weights[f"{prefix}.token_type_embeddings.weight"][:1]
        )
        summed = self.node(
            "Add",
            [self.node("Gather", [words, "input_ids"]), self.node("Gather", [positions, "positions"])],
        )
        return self._norm(summed, f"{prefix}.LayerNorm")

    def layer(self, hidden: str, prefix: str) -> str:
        """One encoder layer."""
        context = self._attention(hidden, f"{prefix}.attention.self")
        attended = self.node("Add", [hidden, self._linear(context, f"{prefix}.attention.output.dense")])
        attended = self._norm(attended, f"{prefix}.attention.output.LayerNorm")
        inner = self.node("Gelu", [self._linear(attended, f"{prefix}.intermediate.dense")])
        outer = self.node("Add", [attended, self._linear(inner, f"{prefix}.output.dense")])
        return self._norm(outer, f"{prefix}.output.LayerNorm")

    def _attention(self, hidden: str, prefix: str) -> str:
        width = self._weights[f"{prefix}.query.weight"].shape[0] // self._heads
        # (B, T, H) -> (B, T, heads, width); 0 keeps a dimension
        split = self.constant(np.array([0, 0, self._heads, width], dtype=np.int64))
        merge = self.constant(np.array([0, 0, self._heads * width], dtype=np.int64))

        def heads_of(part: str, order: list[int], scale: float = 1.0) -> str:
            projected = self._linear(hidden, f"{prefix}.{part}", scale=scale)
            return self.node("Transpose", [self.node("Reshape", [projected, split])], perm=order)

        query = heads_of("query", [0, 2, 1, 3], scale=width**-0.5)
        key = heads_of("key", [0, 2, 3, 1])
        value = heads_of("value", [0, 2, 1, 3])
        logits = self.node("Add", [self.node("MatMul", [query, key]), "attention_bias"])
        context = self.node("MatMul", [self.node("Softmax", [logits], axis=-1), value])
        return self.node("Reshape", [self.node("Transpose", [context], perm=[0, 2, 1, 3]), merge])

    def _linear(self, hidden: str, prefix: str, scale: float = 1.0) -> str:
        weight = self.constant((self._weights[f"{prefix}.weight"].T * scale).astype(np.float32))
        bias = self.constant((self._weights[f"{prefix}.bias"] * scale).astype(np.float32))
        return self.node("Add", [self.node("MatMul", [hidden, weight]), bias])

    def _norm(self, hidden: str, prefix: str) -> str:
        parameters = [self.constant(self._weights[f"{prefix}.{part}"]) for part in ("weight", "bias")]
        return self.node("LayerNormalization", [hidden, *parameters], axis=-1, epsilon=self._epsilon)

    def model(self) -> Any:
        """The finished model."""
        helper, types = self._onnx.helper, self._onnx.TensorProto
        inputs = [
            helper.make_tensor_value_info("input_ids", types.INT64, ["B", "T"]),
            helper.make_tensor_value_info("positions", types.INT64, ["T"]),
            helper.make_tensor_value_info("attention_bias", types.FLOAT, ["B", 1, 1, "T"]),
            helper.make_tensor_value_info("pooling", types.FLOAT, ["B", 1, "T"]),
        ]
        outputs = [helper.make_tensor_value_info("pooled", types.FLOAT, ["B", 1, "H"])]
        graph = helper.make_graph(self._nodes, "bert", inputs, outputs, initializer=self._constants)
        opset = helper.make_opsetid("", _OPSET)
        return helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
